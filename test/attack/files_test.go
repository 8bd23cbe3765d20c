package attack

import (
	"bufio"
	"bytes"
	endian "encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// started is a daemon in a test. It writes its records and its log to said.
type started struct {
	t    *testing.T
	cmd  *exec.Cmd
	mu   sync.Mutex
	said bytes.Buffer
	end  chan error
}

func (s *started) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.Write(b)
}

// daemon starts nfguard run after a script, in its own mount namespace without a
// journal. $D is the directory.
func (p *place) daemon(script string, args ...string) *started {
	p.t.Helper()
	s := &started{t: p.t, end: make(chan error, 1)}
	args = append([]string{
		"--mount", "--propagation", "private", "sh", "-ec",
		"mount -t tmpfs tmpfs /run\n" + script + "\nexec \"$0\" run \"$@\"", binary,
	}, args...)
	s.cmd = p.Command("unshare", args...)
	s.cmd.Env = append(os.Environ(), "D="+p.dir, "RUNTIME_DIRECTORY="+p.path("run"), "NO_COLOR=1")
	s.cmd.Stdout, s.cmd.Stderr = s, s
	if err := s.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() { s.end <- s.cmd.Wait() }()
	p.t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // it may have ended
		select {
		case <-s.end:
		case <-time.After(10 * time.Second):
		}
	})
	s.says(`"NFGUARD_EVENT":"start"`)
	return s
}

// says waits until the daemon has written a text.
func (s *started) says(text string) {
	s.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		said := bytes.Contains(s.said.Bytes(), []byte(text))
		s.mu.Unlock()
		if said {
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.Fatalf("it never said %q:\n%s", text, &s.said)
}

func (s *started) reload() { _ = s.cmd.Process.Signal(syscall.SIGHUP) } // says notices if the daemon has ended

// stop ends the daemon, and fails if its exit code is not 0.
func (s *started) stop() {
	s.t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-s.end:
		if err != nil {
			s.t.Errorf("it ended: %v", err)
		}
		s.end <- err
	case <-time.After(60 * time.Second):
		s.t.Error("it does not end")
	}
}

// TestM4FIFOHoldsNothing: if a FIFO is in place of a drop-in, a CNI configuration or the
// configuration itself, passes go on, and each command reports it and ends.
func TestM4FIFOHoldsNothing(t *testing.T) {
	p := newPlace(t)
	const etc = "mount -t tmpfs tmpfs /etc; mkdir -p /etc/cni/net.d /etc/sysctl.d; mkfifo $D/fifo; ln -s $D/fifo /etc/cni/net.d/10.conf; ln -s $D/fifo /etc/sysctl.d/10-fifo.conf\n"
	config := fmt.Sprintf("scope = \"bridges\"\nbridges.match = \"auto\"\n[sysctl]\n\"net.bridge.bridge-nf-call-iptables\" = 0\n[persist]\nmodules_load = %q\nsysctl = %q\n", p.path("modules.conf"), p.path("99.conf"))
	p.write("nfguard.toml", config)
	if err := unix.Mkfifo(p.path("modules.conf"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, code := p.shell(etc + "nfguard check --config $D/nfguard.toml; echo exit $?; rm $D/fifo\n")
	for _, want := range []string{
		"modules.conf  a FIFO, wanted as written by nfguard\n", "it is a FIFO, not a regular file, and is left as it is\n", "exit 1\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("exit %d, want %q:\n%s", code, want, out)
		}
	}
	s := p.daemon(etc, "--config", p.path("nfguard.toml"))
	s.says("it is a FIFO, not a regular file, and is left as it is")
	// The next passes are completed: a reload is accepted, and its pass writes.
	p.write("nfguard.toml", strings.Replace(config, "99.conf", "other.conf", 1))
	s.reload()
	s.says(`"NFGUARD_SUBJECT":"` + p.path("other.conf") + `"`)
	os.Remove(p.path("modules.conf"))
	s.reload()
	s.says(p.path("modules.conf") + " was absent, written again")
	os.Remove(p.path("nfguard.toml"))
	if err := unix.Mkfifo(p.path("nfguard.toml"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.reload()
	s.says("nfguard.toml: is a FIFO, not a regular file")
	s.stop()
	if out, code := p.shell("nfguard check --config $D/nfguard.toml"); code != 2 || !strings.Contains(out, "nfguard.toml: is a FIFO, not a regular file") {
		t.Errorf("as configuration: exit %d:\n%s", code, out)
	}
}

// TestL4TextfileFollowsNoLinkOfOthers: the directory belongs to another user, who can
// replace it by a link.
func TestL4TextfileFollowsNoLinkOfOthers(t *testing.T) {
	p := newPlace(t)
	p.write("victim/nfguard.prom", "# HELP nfguard_up of somebody else\n")
	p.write("theirs/keep", "")
	link := p.link(p.path("victim"), "theirs/textfile")
	for _, path := range []string{p.path("theirs"), link} {
		if err := os.Lchown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	p.write("nfguard.toml", fmt.Sprintf("[persist]\nenabled = false\n[metrics]\ntextfile = %q\n", filepath.Join(link, "nfguard.prom")))
	before := p.list("victim")
	s := p.daemon("", "--config", p.path("nfguard.toml"))
	s.says("it is a link that uid 65534 can change, and is not followed")
	p.write("nfguard.toml", "[persist]\nenabled = false\n")
	s.reload()
	s.says(`"NFGUARD_EVENT":"config"`)
	s.stop()
	if after := p.list("victim"); after != before {
		t.Errorf("there was\n%sand is\n%s", before, after)
	}
	// A directory that belongs to another user alone is written to.
	os.Remove(link)
	p.write("theirs/textfile/keep", "")
	os.Chown(link, 65534, 65534)
	p.write("nfguard.toml", fmt.Sprintf("[persist]\nenabled = false\n[metrics]\ntextfile = %q\n", filepath.Join(link, "nfguard.prom")))
	s = p.daemon("", "--config", p.path("nfguard.toml"))
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(filepath.Join(link, "nfguard.prom")); err == nil && bytes.Contains(text, []byte("\nnfguard_up 1\n")) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("there are no metrics:\n%s", p.list("theirs"))
		}
	}
	s.stop()
}

// TestL6ReadsAreBounded: only regular files of a sensible size are merged, compared or
// read; everything else is refused with a message.
func TestL6ReadsAreBounded(t *testing.T) {
	p := newPlace(t)
	if err := unix.Mkfifo(p.path("fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{
		"check --merge", "trace --read", "trace 10.0.0.1 10.0.0.2 --compare", "events --journal", "check --config", "config check", "probe dns --resolv-conf",
	} {
		for name, want := range map[string]string{p.path("fifo"): "is a FIFO, not a regular file", "/dev/zero": "is a device, not a regular file"} {
			// timeout(1) ends a command that keeps reading, with 124 or 137.
			out, code := p.shell("ulimit -v 4000000; timeout -k 1 20 " + binary + " " + command + " " + name)
			if code != 2 || !strings.Contains(out, want) {
				t.Errorf("%s %s: exit %d, want %q:\n%.500s", command, name, code, want, out)
			}
		}
	}

	const size = 44 << 20
	// Written in pieces, because a child's memory includes that of its parent at first.
	file := func(name, head, tail string, size int, piece func(i int) string) string {
		f, err := os.Create(p.path(name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w := bufio.NewWriter(f)
		w.WriteString(head)
		for i, n := 0, 0; n < size; i++ {
			n += len(piece(i))
			w.WriteString(piece(i))
		}
		w.WriteString(tail)
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		return f.Name()
	}
	object := func(int) string { return `{},` }
	pad := strings.Repeat("x", 4000)
	answer := func(host int) string {
		return fmt.Sprintf(`{"schema": 1, "host": "worker-%d", "mode": "enforce", "verdict": "wrong", "summary": "%s", "items": [`+
			`{"subject": "net.bridge.bridge-nf-call-iptables", "verdict": "wrong", "want": "1", "have": "0"}], "findings": []}`+"\n", host, pad)
	}
	long := file("long.json", `{"schema": 1, "host": "a", "verdict": "wrong", "items": [`, `{}], "findings": []}`, size, object)
	many := file("many.json", "", "", size, answer)
	small := file("small.json", "", "", size, func(int) string { return `{"schema":1,"host":"a","verdict":"right"}` })
	trace := file("trace.json", `{"schema": 1, "packets": [`, `{}]}`, 31<<20, object)
	huge := p.path("huge.json")
	if err := os.WriteFile(huge, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, 1<<40); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"check", "--merge", long}, "more than 1 MiB in one piece is no answer of nfguard check", 2},
		{[]string{"check", "--merge", many}, "0 as wanted, ", 1},
		{[]string{"check", "--merge", small}, "it has more than 20000 answers: merge it in parts", 2},
		{[]string{"check", "--merge", huge}, "is larger than 64 MiB", 2},
		{[]string{"trace", "--read", trace}, "it is longer than any trace", 2},
		{[]string{"trace", "--read", huge}, "is larger than 32 MiB", 2},
		{[]string{"config", "check", huge}, "is larger than 64 KiB", 2},
	} {
		cmd := exec.Command(binary, tt.args...)
		said := limited{left: 1 << 20}
		cmd.Stdout, cmd.Stderr = &said, &said
		_ = cmd.Run()
		out := said.b
		code, most := cmd.ProcessState.ExitCode(), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss>>10
		t.Logf("%v: at most %d MiB", tt.args[:2], most)
		if code != tt.code || !bytes.Contains(out, []byte(tt.want)) || most > 400 {
			t.Errorf("%v: exit %d with %d MiB, want %q:\n%.500s", tt.args, code, most, tt.want, out)
		}
	}
}

// limited keeps the beginning of what is written to it.
type limited struct {
	b    []byte
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.b, l.left = append(l.b, p[:n]...), l.left-n
	return len(p), nil
}

// hung is a mount that never answers, so that every access to it hangs.
type hung struct {
	run   chan func()
	asked chan struct{} // one slot: somebody waits
}

// newHung mounts it in a mount namespace that ends with the test.
func newHung(t *testing.T, dir string) *hung {
	t.Helper()
	lab.Need(t, lab.Root)
	h := &hung{run: make(chan func()), asked: make(chan struct{}, 1)}
	mounted := make(chan error)
	device := -1
	go func() {
		runtime.LockOSThread() // never unlocked: the mount ends with the thread
		err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, "")
		}
		if err == nil {
			device, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		}
		if err == nil {
			err = unix.Mount("hung", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device))
		}
		mounted <- err
		for f := range h.run {
			f()
		}
	}()
	if err := <-mounted; err != nil {
		t.Skipf("no mount that hangs: %v", err)
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		close(h.run)
		close(stop)
		<-ended
		unix.Close(device) // everything that waits gets an error
	})
	go func() {
		defer close(ended)
		for first := true; ; {
			select {
			case <-stop:
				return
			default:
			}
			fds := []unix.PollFd{{Fd: int32(device), Events: unix.POLLIN}}
			if n, err := unix.Poll(fds, 20); n != 1 || err != nil {
				continue
			}
			if !first {
				// Not read from the queue: a request that was read could not be interrupted.
				select {
				case h.asked <- struct{}{}:
				default:
				}
				time.Sleep(20 * time.Millisecond)
				continue
			}
			first = false
			request := make([]byte, 1<<17)
			if n, err := unix.Read(device, request); err != nil || n < 40 {
				t.Errorf("read the first request: %d, %v", n, err)
				return
			}
			// struct fuse_out_header and fuse_init_out of linux/fuse.h, 7.31.
			reply := make([]byte, 16+64)
			endian.NativeEndian.PutUint32(reply, uint32(len(reply)))
			copy(reply[8:], request[8:16]) // which request
			endian.NativeEndian.PutUint32(reply[16:], 7)
			endian.NativeEndian.PutUint32(reply[20:], 31)
			endian.NativeEndian.PutUint32(reply[36:], 4096)
			if _, err := unix.Write(device, reply); err != nil {
				t.Errorf("answer the first request: %v", err)
				return
			}
		}
	}()
	return h
}

// TestM4SignalEndsEveryCommand, also while it waits for a disk that hangs.
func TestM4SignalEndsEveryCommand(t *testing.T) {
	dir := t.TempDir()
	h := newHung(t, dir)
	x := filepath.Join(dir, "x")
	commands := [][]string{
		{"check", "--config", x},
		{"apply", "--config", x},
		{"run", "--config", x},
		{"config", "show", "--config", x},
		{"config", "check", x},
		{"check", "--root", dir},
		{"apply", "--root", dir},
		{"check", "--merge", x},
		{"trace", "--read", x},
		{"events", "--journal", x},
		{"status"},
	}
	for i, args := range commands {
		t.Run(strings.Join(args[:min(len(args), 2)], " "), func(t *testing.T) {
			sig := []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}[i%3]
			if args[0] == "run" { // SIGHUP makes it read its configuration
				sig = syscall.SIGTERM
			}
			code := 128 + int(sig)
			cmd := exec.Command(binary, args...)
			cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+dir)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			select {
			case <-h.asked: // by the previous command
			default:
			}
			started := make(chan error)
			h.run <- func() { started <- cmd.Start() }
			if err := <-started; err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case <-h.asked:
			case err := <-ended:
				t.Fatalf("it did not wait: %v\n%s", err, &out)
			case <-time.After(60 * time.Second):
				t.Error("it did not access the mount")
			}
			began := time.Now()
			_ = cmd.Process.Signal(sig)
			select {
			case <-ended:
				t.Logf("%v after the signal", time.Since(began))
			case <-time.After(30 * time.Second):
				_ = cmd.Process.Kill()
				<-ended
				t.Fatal("it goes on after the signal")
			}
			if got := cmd.ProcessState.ExitCode(); got != code {
				t.Errorf("exit %d, want %d\n%s", got, code, &out)
			}
		})
	}
}
