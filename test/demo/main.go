// Demo shows in a few seconds what nfguard is for. It builds a worker node with two pods
// and kube-proxy's rules in its own network namespaces, shows that a Service fails between
// pods of one node, starts nfguard, and shows that the same request works and keeps
// working. Nothing on the host is changed.
//
//	go run ./test/demo -nfguard bin/nfguard
//
// It exits 0 if every step showed what it should, 1 if one did not, 2 if the demo cannot
// run here.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nfguard/nfguard/test/demo/box"
)

// limit ends a demo that hangs.
const limit = 25 * time.Second

func main() {
	binary := flag.String("nfguard", "bin/nfguard", "the nfguard to show")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done within %v", limit))

	code, err := demo(ctx, newStory(os.Stdout), *binary)
	if ctx.Err() != nil {
		err = cmp.Or(context.Cause(ctx), err)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo: "+strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "\ndemo: "))
		code = 2
	}
	cancel()
	stop()
	os.Exit(code)
}

// demo runs the demo. An error means that it could not go on.
func demo(ctx context.Context, s *story, binary string) (int, error) {
	if err := box.Ready(); err != nil {
		return 2, err
	}
	binary, err := box.Binary(binary)
	if err != nil {
		return 2, err
	}
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin") // not in the PATH that su sets
	for _, tool := range []string{"ip", "sysctl", "iptables-nft-restore"} {
		if _, err := exec.LookPath(tool); err != nil {
			return 2, fmt.Errorf("%w\nhint: run make deps", err)
		}
	}
	host, err := values()
	if err != nil {
		return 2, err
	}
	c, err := newCluster(ctx)
	if err != nil {
		return 2, err
	}
	defer c.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := serve(ctx, c.server); err != nil {
		return 2, err
	}

	s.say("A worker node with two pods behind the bridge %s. The client is %s,", bridge, clientIP)
	s.say("the server %s; the Services %s (web) and %s (DNS)", serverIP, web.ClusterIP, dns.ClusterIP)
	s.say("lead to it, by rules as kube-proxy writes them.")

	s.step("Without nfguard: the bridge-nf-call keys are 0")
	for _, key := range keys {
		if err := c.foreign(ctx, key, "0"); err != nil {
			return 2, err
		}
	}
	c.request(ctx, s, false)
	s.say("The server's answers cross the bridge without passing netfilter, so nobody puts the")
	s.say("cluster IP back into them. From another node the same Services would work.")
	proof, err := c.worker.Run(ctx, "", binary, "probe")
	s.quote(proof)
	s.fails("nfguard probe, with packets of its own", "", err)

	s.step("nfguard starts")
	var log records
	daemon, err := c.worker.StartDaemon(ctx, &log, binary)
	if err != nil {
		return 2, fmt.Errorf("%w\n%s", err, log.String())
	}
	defer daemon.Stop()
	s.quote(log.messages())
	have, err := c.values()
	s.works("the keys after READY=1", have, cmp.Or(err, want("1 1 1", have)))

	s.step("With nfguard: the same requests")
	c.request(ctx, s, true)

	s.step("Somebody sets a key back to 0")
	c.overrule(ctx, s, &log)
	c.request(ctx, s, true)

	s.step("nfguard check --probe")
	report, err := c.worker.Run(ctx, "", binary, "check", "--probe", "--config", box.Config)
	s.quote(report)
	s.works("its exit code", "0, all as wanted", err)

	s.step("The end")
	s.works("nfguard after SIGTERM", "exit code 0", daemon.Stop())
	have, err = c.values()
	s.works("the keys without it", have+", the node is left as it is", cmp.Or(err, want("1 1 1", have)))
	pids, err := c.worker.Processes()
	s.works("processes left on the worker", "none", cmp.Or(err, none(pids)))
	have, err = values()
	s.works("the host's own keys", have+", as before", cmp.Or(err, want(host, have)))
	if ctx.Err() != nil {
		return 2, ctx.Err()
	}
	return s.end(), nil
}

// request makes the three requests that distinguish the cases.
func (c *cluster) request(ctx context.Context, s *story, works bool) {
	result, err := get(ctx, c.client, web.Endpoint)
	s.works("http://"+web.Endpoint.String()+" (pod)", result, err)

	result, err = get(ctx, c.client, web.ClusterIP)
	answer, dnsErr := ask(ctx, c.client, dns.ClusterIP)
	if works {
		s.works("http://"+web.ClusterIP.String()+" (Service)", result, err)
		s.works("dns "+dns.ClusterIP.String()+" (Service)", answer, dnsErr)
		return
	}
	s.fails("http://"+web.ClusterIP.String()+" (Service)", result, err)
	s.fails("dns "+dns.ClusterIP.String()+" (Service)", answer, dnsErr)
	if dnsErr != nil && !errors.As(dnsErr, new(wrongSource)) {
		s.differs("dns %s: %v, where an answer from %s was due", dns.ClusterIP, dnsErr, dns.Endpoint)
	}
}

// overrule writes 0 to a key while nfguard runs, and shows what nfguard did.
func (c *cluster) overrule(ctx context.Context, s *story, log *records) {
	key, before := keys[0], len(log.String())
	err := c.foreign(ctx, key, "0")
	s.works("sysctl -w "+key+"=0", "done", err)

	rec := log.await(before, "NFGUARD_SUBJECT", key)
	have, err := c.values()
	s.works("the keys now", have, cmp.Or(err, want("1 1 1", have)))
	if rec == nil {
		s.works("nfguard's record of it", "", errors.New("none within 2s"))
		s.quote(log.String()[before:])
		return
	}
	s.say("nfguard's record of it:")
	s.quote(fmt.Sprint(rec["MESSAGE"]))
	for _, field := range slices.Sorted(maps.Keys(rec)) {
		if field != "MESSAGE" {
			s.quote(fmt.Sprintf("  %s=%v", field, rec[field]))
		}
	}
}

// values reads the worker's keys.
func (c *cluster) values() (have string, err error) {
	err = c.worker.Do(func() error {
		have, err = values()
		return err
	})
	return have, err
}

func want(want, have string) error {
	if want != have {
		return fmt.Errorf("want %s, have %s", want, have)
	}
	return nil
}

func none(pids []int) error {
	if len(pids) > 0 {
		return fmt.Errorf("still there: %v", pids)
	}
	return nil
}
