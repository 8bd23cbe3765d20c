package attack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/kubeproxy/standin"
	"github.com/nfguard/nfguard/test/lab"
)

// Capabilities of the daemon: those of the packaged unit (systemd/nfguard.service), and
// the fewest that it works with.
const (
	unitCaps = "net_admin,bpf,perfmon,sys_admin"
	fewCaps  = "net_admin"
)

// victim is a daemon in its own network namespace.
type victim struct {
	*lab.Namespace
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	said *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newVictim starts a daemon with those capabilities, and waits until it is ready.
func newVictim(t *testing.T, caps, config string) *victim {
	t.Helper()
	lab.Need(t, lab.Root, lab.Netns)
	v := &victim{Namespace: lab.NewNamespace(t), t: t, dir: t.TempDir(), said: new(lockedBuffer)}
	v.Run(t, "ip", "link", "add", "cnio0", "up", "type", "bridge")
	config += fmt.Sprintf("\n[persist]\nmodules_load = %q\nsysctl = %q\n", v.dir+"/modules.conf", v.dir+"/99-zz-nfguard.conf")
	if err := os.WriteFile(v.dir+"/nfguard.toml", []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	v.cmd = v.Command("setpriv", "--bounding-set=-all,+"+strings.ReplaceAll(caps, ",", ",+"), "--inh-caps=-all", "--no-new-privs",
		binary, "run", "--config", v.dir+"/nfguard.toml")
	v.cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+v.dir+"/run")
	v.cmd.Stderr = v.said
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	v.Do(func() { err = v.cmd.Start() }) // its thread lasts as long as the test
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- v.cmd.Wait() }()
	t.Cleanup(func() {
		_ = v.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("nfguard: %v", err)
			}
		case <-time.After(10 * time.Second):
			_ = v.cmd.Process.Kill()
			t.Error("nfguard did not end within 10 s of SIGTERM")
		}
		if t.Failed() {
			t.Logf("nfguard said:\n%s", v.said)
		}
	})
	v.await("it is ready", func() bool { return len(v.records("start")) > 0 })
	return v
}

// await waits until ok returns true, or fails the test.
func (v *victim) await(what string, ok func() bool) {
	v.t.Helper()
	for began := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			v.t.Fatalf("not so after 20 s: %s", what)
		}
	}
}

// records returns those of a kind so far, in order.
func (v *victim) records(event string) (list []map[string]string) {
	for line := range strings.Lines(v.said.String()) {
		var r map[string]string
		if json.Unmarshal([]byte(line), &r) == nil && r["NFGUARD_EVENT"] == event {
			list = append(list, r)
		}
	}
	return list
}

// told waits for a record about kube-proxy that contains both words.
func (v *victim) told(who, what string) map[string]string {
	v.t.Helper()
	var found map[string]string
	v.await(who+" … "+what, func() bool {
		for _, r := range v.records("kube_proxy") {
			if strings.Contains(r["MESSAGE"], who) && strings.Contains(r["MESSAGE"], what) {
				found = r
				return true
			}
		}
		return false
	})
	return found
}

// proxyStatus is the part of nfguard status about kube-proxy.
type proxyStatus struct {
	State     string `json:"state"`
	Sentence  string `json:"sentence"`
	KubeProxy struct {
		State     string `json:"state"`
		Processes []struct {
			PID int `json:"pid"`
		} `json:"processes"`
		Error string `json:"error"`
	} `json:"kube_proxy"`
	Sources []struct {
		Name string `json:"name"`
		Up   bool   `json:"up"`
	} `json:"sources"`
}

func (v *victim) status() (s proxyStatus) {
	v.t.Helper()
	cmd := v.Command(binary, "status", "-o", "json", "--config", v.dir+"/nfguard.toml")
	cmd.Env = v.cmd.Env
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		v.t.Fatalf("status: %v\n%s", err, out)
	}
	if err := json.Unmarshal(out, &s); err != nil {
		v.t.Fatalf("status: %v\n%s", err, out)
	}
	return s
}

// public is a directory that other users can enter.
func public(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nfguard-attack-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// fake runs something else under the name kube-proxy, and returns its PID.
func fake(t *testing.T, words ...string) int {
	t.Helper()
	text, err := os.ReadFile(lab.Tool(t, lab.Root, "sleep"))
	if err != nil {
		t.Fatal(err)
	}
	path := public(t) + "/kube-proxy"
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	words = append(words, path, "600")
	cmd := exec.Command(words[0], words[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	comm := fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid)
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		if name, _ := os.ReadFile(comm); string(name) == "kube-proxy\n" {
			return cmd.Process.Pid
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%v does not run", words)
		}
	}
}

var asNobody = []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}

// TestM1OnlyKubeProxyIsKubeProxy: other processes with that name, of another user or in
// a container, are not taken for kube-proxy, whether it runs or has ended.
func TestM1OnlyKubeProxyIsKubeProxy(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	program := standin.Build(t)
	for name, caps := range map[string]string{"the unit's capabilities": unitCaps, "CAP_NET_ADMIN alone": fewCaps} {
		t.Run(name, func(t *testing.T) {
			v := newVictim(t, caps, "[timing]\naudit = \"1s\"\n")
			inside := []string{"nsenter", "--net=" + v.Path()} // as with hostNetwork
			fakes := map[string]int{
				"nobody's, in a pod":              fake(t, append([]string{"unshare", "--net"}, asNobody...)...),
				"nobody's, in the host's netns":   fake(t, append(inside, asNobody...)...),
				"a set-user-ID file's":            fake(t, append(inside, "setpriv", "--ruid=65534")...),
				"root's, in a pod":                fake(t, "unshare", "--net"),
				"root's of a user namespace":      fake(t, append(inside, "unshare", "--user", "--map-root-user")...),
				"root's, in the tests' own netns": fake(t, "setpriv"),
			}
			real := standin.Start(t, v.Namespace, program, "-family", "ipv4")
			who := fmt.Sprintf("kube-proxy[%d]", real.PID())
			started := v.told(who, "started (")
			if n := strings.Count(started["MESSAGE"], "kube-proxy["); n != 1 {
				t.Errorf("the record of its start: %s", started["MESSAGE"])
			}
			v.await("it is seen, and its rules", func() bool {
				s := v.status().KubeProxy
				return s.State == "programmed" && len(s.Processes) > 0
			})
			if s := v.status().KubeProxy; len(s.Processes) != 1 || s.Processes[0].PID != real.PID() || s.Error != "" {
				t.Errorf("status: %+v", s)
			}
			real.Stop(t)
			ended := v.told(who, "ended; its rules stay")
			if ended["OBJECT_PID"] != strconv.Itoa(real.PID()) {
				t.Errorf("the record of its end is of PID %q", ended["OBJECT_PID"])
			}
			fakes["one that is started after its end"] = fake(t, append([]string{"unshare", "--net"}, asNobody...)...)
			v.await("it is gone", func() bool { return v.status().KubeProxy.State == "gone" })
			time.Sleep(1500 * time.Millisecond) // an audit
			if s := v.status().KubeProxy; s.State != "gone" || len(s.Processes) != 0 {
				t.Errorf("status: %+v", s)
			}
			for what, pid := range fakes {
				for _, r := range v.records("kube_proxy") {
					if strings.Contains(r["MESSAGE"], fmt.Sprintf("[%d]", pid)) {
						t.Errorf("%s has a record: %s", what, r["MESSAGE"])
					}
				}
			}
		})
	}
}

// TestM2StormOfTheName: user nobody starts a thousand programs called kube-proxy a
// second, while many other processes sleep; that costs next to nothing. The benchmark
// measures it; this test finds large deviations.
func TestM2StormOfTheName(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	dir := public(t)
	storm := dir + "/kube-proxy"
	gcc := exec.Command(lab.Tool(t, lab.Root, "gcc"), "-O2", "-static", "-o", storm, "../bench/forker.c")
	if out, err := gcc.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	v := newVictim(t, unitCaps, "[timing]\naudit = \"1m\"\n")
	for range 300 {
		cmd := exec.Command("sleep", "600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	before, began := processorTime(t, v.cmd.Process.Pid), time.Now()
	words := append(asNobody, storm, storm, "1000", "3000")
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cpu, took := processorTime(t, v.cmd.Process.Pid)-before, time.Since(began)
	share := 100 * cpu.Seconds() / took.Seconds()
	t.Logf("3000 starts in %v: %v, %.2f %% of a core", took, cpu, share)
	if share > 3 {
		t.Errorf("it costs %.2f %% of a core", share)
	}
	if list := v.records("kube_proxy"); len(list) > 0 {
		t.Errorf("%d records, the first: %s", len(list), list[0]["MESSAGE"])
	}
	real := standin.Start(t, v.Namespace, standin.Build(t), "-family", "ipv4")
	v.told(fmt.Sprintf("kube-proxy[%d]", real.PID()), "started (")
}

func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	const sched = 2 // CPUCLOCK_SCHED, see clock_getcpuclockid(3)
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// TestL8BridgesDoNotFloodTheJournal creates and removes sixty bridges.
func TestL8BridgesDoNotFloodTheJournal(t *testing.T) {
	v := newVictim(t, unitCaps, "")
	for _, what := range [][]string{{"add", "type", "bridge"}, {"del"}} {
		for i := range 60 {
			v.Run(t, "ip", append([]string{"link", what[0], fmt.Sprintf("br%d", i)}, what[1:]...)...)
		}
		time.Sleep(500 * time.Millisecond) // a pass
	}
	list := v.records("bridge")
	if len(list) == 0 || len(list) > 10 {
		t.Errorf("%d records, want 1 to 10 in the first minute", len(list))
	}
}

// TestB11NoProcessesIsNoFault: without names there is no source of news for processes,
// and that is no fault.
func TestB11NoProcessesIsNoFault(t *testing.T) {
	v := newVictim(t, unitCaps, "[kube_proxy]\nprocesses = []\nunits = []\n")
	time.Sleep(3500 * time.Millisecond) // a source that is lost for so long is reported
	s := v.status()
	if s.State != "healthy" {
		t.Errorf("it is %s: %s", s.State, s.Sentence)
	}
	for _, source := range s.Sources {
		if source.Name == "exec" || source.Name == "unit" || !source.Up {
			t.Errorf("source %+v", source)
		}
	}
}

// TestB7DeviceThatReturns: if a device is removed and comes back, its guarded key is put
// right, and the kernel reports writes to it again. Otherwise they would be found only
// after an hour.
func TestB7DeviceThatReturns(t *testing.T) {
	for name, caps := range map[string]string{"the unit's capabilities": unitCaps, "CAP_NET_ADMIN alone": fewCaps} {
		t.Run(name, func(t *testing.T) {
			const key, path = "net.ipv4.conf.eth1.rp_filter", "/proc/sys/net/ipv4/conf/eth1/rp_filter"
			const add = "link add eth1 type veth peer name v1\n"
			v := newVictim(t, caps, "[timing]\nresync = \"1h\"\naudit = \"1h\"\n[contention]\nlimit = 1000\n[sysctl]\n\""+key+"\" = 2\n")
			right := func() (ok bool) {
				v.Do(func() {
					text, _ := os.ReadFile(path)
					ok = strings.TrimSpace(string(text)) == "2"
				})
				return ok
			}
			told := func() (n int) {
				for _, r := range v.records("drift") {
					if r["NFGUARD_SUBJECT"] == key && r["NFGUARD_SOURCE"] == "sysctl" {
						n++
					}
				}
				return n
			}
			for _, change := range []string{add, "link del eth1\n" + add, "link set eth1 name other\nlink del other\n" + add} {
				ip := v.Command("ip", "-batch", "-")
				ip.Stdin = strings.NewReader(change)
				if out, err := ip.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				v.await("the key is right", right)
				// The file is watched again within milliseconds.
				before := told()
				v.await("a foreign write is told by the kernel", func() bool {
					v.Run(t, "sh", "-c", "echo 0 > "+path)
					v.await("the key is right again", right)
					return told() > before
				})
			}
		})
	}
}
