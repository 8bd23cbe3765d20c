// Intruder tries what an attacker would try who has taken over the daemon. Started by
// the daemon's unit instead of the daemon, it is inside the sandbox. Started by root
// outside, it is the control: there each attempt has to succeed, otherwise it proves
// nothing. It leaves the machine as it is.
//
//	intruder listen   act as the services that listen for root alone, until killed
//	intruder          try everything, and print a line of JSON for each attempt
//
// A successful attempt is undone at once.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/helper"
)

// attempt is one way out of the sandbox. It returns nil if it succeeded.
type attempt struct {
	name string
	try  func() error
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "listen" {
		listen()
	}
	runtime.LockOSThread()
	out := json.NewEncoder(os.Stdout)
	for _, a := range attempts() {
		text := ""
		if err := a.try(); err != nil {
			text = err.Error()
		}
		if err := out.Encode(struct {
			Name  string `json:"name"`
			Error string `json:"error"`
		}{a.name, text}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// The sockets of listen: in places that a mount can hide, and in one that it cannot.
var sockets = []string{"/run/intruder.sock", "/var/lib/intruder.sock", "\x00intruder"}

func listen() {
	for _, path := range sockets {
		if path[0] != 0 {
			_ = os.Remove(path)
		}
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go func() {
			for {
				if c, err := l.Accept(); err == nil {
					c.Close()
				}
			}
		}()
	}
	if err := os.WriteFile("/run/intruder.ready", nil, 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	select {}
}

func attempts() []attempt {
	list := []attempt{
		{"start a unit by systemd-run", systemdRun},
		{"connect to systemd's private socket", connect("/run/systemd/private")},
		{"connect to D-Bus", connect("/run/dbus/system_bus_socket")},
		{"connect to the journal's varlink socket", connect("/run/systemd/journal/io.systemd.journal")},
	}
	for _, path := range sockets {
		list = append(list, attempt{"connect to what listens at " + strings.Replace(path, "\x00", "@", 1), connect(path)})
	}
	list = append(list, attempt{"connect by TCP", connectTCP}, attempt{"make an io_uring", ioUring})
	for _, dir := range []string{
		"/etc", "/etc/sysctl.d", "/etc/modules-load.d", "/etc/modprobe.d", "/etc/cron.d", "/etc/systemd/system", "/etc/nfguard/conf.d",
		"/usr/bin", "/usr/lib/systemd/system", "/run", "/run/systemd/system", "/run/udev/rules.d", "/run/nfguard-helper",
		"/var/lib", "/var/spool", "/root", "/home", "/opt", "/srv", "/boot", "/dev/shm", "/sys/fs/cgroup",
	} {
		list = append(list, attempt{"write to " + dir, writeTo(dir)})
	}
	for _, path := range []string{
		"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/overcommit_memory",
		"/proc/sys/fs/protected_symlinks", "/proc/sysrq-trigger", "/proc/1/oom_score_adj", "/sys/power/state",
		"/etc/passwd", "/usr/bin/true", "/dev/kmsg", "/dev/mem",
	} {
		list = append(list, attempt{"open " + path + " to write", openToWrite(path)})
	}
	for _, path := range []string{"/etc/shadow", "/proc/1/mem", "/proc/1/environ", "/proc/kcore", "/dev/kmsg"} {
		list = append(list, attempt{"read " + path, read(path)})
	}
	return append(list,
		attempt{"load a module", loadModule},
		attempt{"load a module from memory", loadModuleFromMemory},
		attempt{"run modprobe", program("modprobe", "isofs")},
		attempt{"load a BPF program", loadBPF},
		attempt{"open a perf event", perfEvent},
		attempt{"trace pid 1", ptrace},
		attempt{"read the memory of pid 1", readMemory},
		attempt{"mount a file system", mount},
		attempt{"remount / writable", remount},
		attempt{"make a mount namespace", unshare(unix.CLONE_NEWNS)},
		attempt{"make a user namespace", unshare(unix.CLONE_NEWUSER)},
		attempt{"enter the namespaces of pid 1", setns},
		attempt{"change the root directory", chroot},
		attempt{"make a device", mknod},
		attempt{"make a set-user-ID program", setuid},
		attempt{"become another user", becomeNobody},
		attempt{"open a packet socket", socket(unix.AF_PACKET)},
		attempt{"make shared memory of System V", sharedMemory},
		attempt{"set the clock", setClock},
		attempt{"set the host's name", setHostname},
		attempt{"map memory writable and executable", writableCode},
		attempt{"have the helper do what was not asked for by root", hostileRequests},
		attempt{"keep the helper from serving", flood},
	)
}

func systemdRun() error {
	const mark = "/run/intruder.started"
	_ = os.Remove(mark)
	if err := program("systemd-run", "--quiet", "--collect", "touch", mark)(); err != nil {
		return err
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(mark); err == nil {
			return os.Remove(mark)
		} else if time.Now().After(deadline) {
			return err
		}
	}
}

func program(name string, args ...string) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
		}
		return nil
	}
}

// connect succeeds if the kernel lets us connect, whoever listens.
func connect(path string) func() error {
	return func() error {
		var last error
		for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET} {
			fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: strings.Replace(path, "\x00", "@", 1)})
			unix.Close(fd)
			if err == nil {
				return nil
			}
			if last == nil {
				last = err
			}
		}
		return last
	}
}

func connectTCP() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}})
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil // it got as far as that
	}
	return err
}

func ioUring() error {
	var params [120]byte
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return errno
	}
	return unix.Close(int(fd))
}

func writeTo(dir string) func() error {
	return func() error {
		made := ""
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			made = dir
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		path := filepath.Join(dir, "intruder")
		if strings.HasPrefix(dir, "/sys/fs/cgroup") { // not a file system for files
			path = filepath.Join(dir, "intruder.slice")
			if err := os.Mkdir(path, 0o755); err != nil {
				return err
			}
			return os.Remove(path)
		}
		err := os.WriteFile(path, []byte("x"), 0o600)
		_ = os.Remove(path)
		if made != "" {
			_ = os.Remove(made)
		}
		return err
	}
}

func openToWrite(path string) func() error {
	return func() error {
		f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		return f.Close()
	}
}

func read(path string) func() error {
	return func() error {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	}
}

// considered is nil if the kernel looked at its arguments, and refused them only because
// they are nonsense.
func considered(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSYS):
		return err
	}
	return nil
}

func loadModule() error {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer f.Close()
	return considered(unix.FinitModule(int(f.Fd()), "", 0))
}

func loadModuleFromMemory() error { return considered(unix.InitModule(make([]byte, 64), "")) }

func loadBPF() error {
	// "return 0" as a socket filter: the smallest possible program.
	code := []uint64{0x00000000000000b7, 0x0000000000000095}
	license := []byte("GPL\x00")
	attributes := struct {
		kind, count   uint32
		code, license uint64
		rest          [96]byte
	}{kind: 1, count: 2, code: uint64(uintptr(unsafe.Pointer(&code[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0])))}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, 5, uintptr(unsafe.Pointer(&attributes)), 120)
	runtime.KeepAlive(code)
	runtime.KeepAlive(license)
	if errno != 0 {
		return errno
	}
	return unix.Close(int(fd))
}

func perfEvent() error {
	a := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})), Config: unix.PERF_COUNT_SW_CPU_CLOCK}
	fd, err := unix.PerfEventOpen(&a, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func ptrace() error {
	if err := unix.PtraceSeize(1); err != nil {
		return err
	}
	if err := unix.PtraceInterrupt(1); err != nil {
		return err
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(1, &status, unix.WALL, nil); err != nil {
		return err
	}
	return unix.PtraceDetach(1)
}

func readMemory() error {
	var b [1]byte
	local := []unix.Iovec{{Base: &b[0], Len: 1}}
	_, err := unix.ProcessVMReadv(1, local, []unix.RemoteIovec{{Base: 4096, Len: 1}}, 0)
	return considered(err)
}

func mount() error {
	if err := unix.Mount("none", "/mnt", "tmpfs", 0, ""); err != nil {
		return err
	}
	return unix.Unmount("/mnt", unix.MNT_DETACH)
}

func remount() error { return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, "") }

// apart runs f on a thread that ends with it.
func apart(f func() error) error {
	errc := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		errc <- f()
	}()
	return <-errc
}

func unshare(kind int) func() error {
	return func() error {
		if kind == unix.CLONE_NEWUSER { // refused to a process with threads
			cmd := exec.Command("/proc/self/exe", "none")
			cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: uintptr(kind)}
			err := cmd.Start()
			if err == nil {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}
			return err
		}
		return apart(func() error { return unix.Unshare(kind) })
	}
}

func setns() error {
	return apart(func() error {
		fd, err := unix.Open("/proc/1/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Setns(fd, unix.CLONE_NEWNET)
	})
}

func chroot() error {
	return apart(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		return unix.Chroot("/usr")
	})
}

// own is a directory that the daemon can write to.
func own() string {
	if dir := os.Getenv("RUNTIME_DIRECTORY"); dir != "" {
		return dir
	}
	return "/run"
}

func mknod() error {
	path := filepath.Join(own(), "intruder.device")
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 1))); err != nil {
		return err
	}
	return os.Remove(path)
}

func setuid() error {
	path := filepath.Join(own(), "intruder.program")
	if err := os.WriteFile(path, nil, 0o700); err != nil {
		return fmt.Errorf("not the attempt: %w", err)
	}
	defer os.Remove(path)
	return unix.Chmod(path, unix.S_ISUID|0o755)
}

func becomeNobody() error {
	return apart(func() error {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 65534, ^uintptr(0)); errno != 0 {
			return errno
		}
		return nil
	})
}

func socket(family int) func() error {
	return func() error {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	}
}

func sharedMemory() error {
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, os.Getpagesize(), 0o600)
	if err != nil {
		return err
	}
	_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	return err
}

func setClock() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return fmt.Errorf("not the attempt: %w", err)
	}
	_, _, errno := unix.Syscall(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, uintptr(unsafe.Pointer(&now)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func setHostname() error {
	name, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("not the attempt: %w", err)
	}
	return unix.Sethostname([]byte(name))
}

func writableCode() error {
	b, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	return unix.Munmap(b)
}

// request sends a datagram to the helper with the descriptors and one end of a pair of
// sockets, and returns the answer from the other end.
func request(text []byte, more ...int) (string, error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(p[0])
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		rights := unix.UnixRights(append([]int{p[1]}, more...)...)
		err = unix.Sendmsg(fd, text, rights, &unix.SockaddrUnix{Name: helper.Socket}, unix.MSG_DONTWAIT)
	}
	unix.Close(p[1])
	if err != nil {
		return "", err
	}
	limit := unix.NsecToTimeval(int64(10 * time.Second))
	if err := unix.SetsockoptTimeval(p[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return "", err
	}
	b := make([]byte, 1<<16)
	for {
		n, err := unix.Read(p[0], b)
		if err != nil {
			return "", err
		}
		if !strings.Contains(string(b[:n]), `"begun":true`) {
			return string(b[:n]), nil
		}
	}
}

// hostileRequests succeeds if the helper claims to have carried out one of them.
func hostileRequests() error {
	heard := false
	for _, text := range []string{
		`{"version":1,"request":"load the module","name":"dummy"}`,
		`{"version":1,"request":"load the module dummy"}`,
		`{"version":1,"request":"write the drop-ins","path":"/etc/cron.d/intruder","content":"* * * * * root id"}`,
		`{"version":1,"request":"../../../bin/sh"}`,
		`{"version":1,"request":"run","command":["/bin/sh"]}`,
		`{"version":1,"request":"load the module"}{"version":1,"request":"load the module"}`,
		`{"version":1,"request":` + strings.Repeat(`[`, 10000),
		"\x00\xff", strings.Repeat("A", 100_000),
	} {
		answer, err := request([]byte(text))
		if err != nil {
			continue
		}
		heard = heard || answer != ""
		if answer != "" && !strings.Contains(answer, `"error":`) {
			return nil
		}
	}
	if !heard {
		return errors.New("not the attempt: the helper answered nothing")
	}
	return errors.New("each was refused")
}

// flood succeeds if a valid request is not served after many nonsensical ones.
func flood() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for i := range 20_000 {
		var rights []byte
		if i%2 == 0 {
			rights = unix.UnixRights(fd, fd)
		}
		err := unix.Sendmsg(fd, []byte("nonsense"), rights, &unix.SockaddrUnix{Name: helper.Socket}, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			time.Sleep(time.Millisecond)
		} else if err != nil {
			return fmt.Errorf("not the attempt: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := new(helper.Client).Ask(ctx, helper.WriteSysctls, nil); err != nil {
		return nil // it is not served: the attempt succeeded
	}
	return errors.New("it serves as before")
}
