package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nfguard/nfguard/internal/core/helper"
	"github.com/nfguard/nfguard/internal/core/host"
)

// helping returns what the helper does with the configuration, which names
// drop-ins below dir.
func newHelping(t *testing.T, config string) (h *helping, dir string) {
	t.Helper()
	dir = t.TempDir()
	config += fmt.Sprintf("\n[persist]\nmodules_load = %q\nsysctl = %q\n", dir+"/modules.conf", dir+"/sysctl.conf")
	path := filepath.Join(dir, "nfguard.toml")
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	return &helping{config: path, host: host.New(host.Options{Modprobe: dir + "/modprobe"}), left: func() int { return 0 }}, dir
}

func TestHelperWritesTheDropins(t *testing.T) {
	h, dir := newHelping(t, "[module]\nname = \"br_netfilter\"\n")
	if _, _, err := h.do(context.Background(), helper.WriteModules); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/sysctl.conf"); err == nil {
		t.Error("the other one, which the daemon has not missed, was written as well")
	}
	if _, _, err := h.do(context.Background(), helper.WriteSysctls); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"modules.conf": "\nbr_netfilter\n", "sysctl.conf": "\nnet.bridge.bridge-nf-call-iptables = 1\n"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: want %q in it, got %q, %v", name, want, text, err)
		}
	}

	// One that is right is not written to.
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(dir+"/modules.conf", old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir + "/sysctl.conf"); err != nil {
		t.Fatal(err)
	}
	for _, r := range []helper.Request{helper.WriteModules, helper.WriteSysctls} {
		if _, _, err := h.do(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(dir + "/modules.conf"); err != nil || time.Since(info.ModTime()) < 30*time.Minute {
		t.Errorf("a drop-in that was right was written: %v, %v", info.ModTime(), err)
	}
	if _, err := os.Stat(dir + "/sysctl.conf"); err != nil {
		t.Error(err)
	}
}

// TestHelperKeepsToTheConfiguration has it do nothing that root has not asked for.
func TestHelperKeepsToTheConfiguration(t *testing.T) {
	for _, tt := range []struct{ name, config, want, next string }{
		{"observed only", "mode = \"observe\"", `with mode = "observe" nothing is changed`, `set mode = "enforce"`},
		{"a wrong configuration", "mode = \"obey\"", "the configuration is wrong: ", "nfguard config check tells all that is"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, dir := newHelping(t, tt.config)
			if err := os.WriteFile(dir+"/modprobe", []byte("#!/bin/sh\ntouch "+dir+"/loaded\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			for _, r := range []helper.Request{helper.LoadModule, helper.WriteModules, helper.WriteSysctls} {
				_, _, err := h.do(context.Background(), r)
				var known interface{ Next() string }
				if err == nil || !strings.HasPrefix(err.Error(), tt.want) || !errors.As(err, &known) || known.Next() != tt.next {
					t.Errorf("%s: got %v", r, err)
				}
			}
			if left, err := filepath.Glob(dir + "/*"); err != nil || len(left) != 2 {
				t.Errorf("want the configuration and modprobe only, got %q, %v", left, err)
			}
		})
	}
	h, dir := newHelping(t, "")
	if err := os.WriteFile(dir+"/modprobe", []byte("#!/bin/sh\necho \"$@\" >"+dir+"/loaded\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, _, err := h.do(context.Background(), helper.LoadModule)
	if text, readErr := os.ReadFile(dir + "/loaded"); string(text) != "-b br_netfilter\n" {
		t.Errorf("modprobe %q: %v, %v", text, err, readErr)
	}
}

// TestHelperLeavesOneModprobe has a helper find what one before it has left behind.
func TestHelperLeavesOneModprobe(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	h, dir := newHelping(t, "")
	if err := os.WriteFile(dir+"/modprobe", text, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(dir+"/modprobe", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	h.left = leftBehind
	_, _, err = h.do(context.Background(), helper.LoadModule)
	if want := regexp.MustCompile(`^load br_netfilter: modprobe\[\d+\] still hangs in the kernel$`); err == nil || !want.MatchString(err.Error()) {
		t.Errorf("got %v", err)
	}
}

func TestHelperNeedsItsSocket(t *testing.T) {
	if err := Helper(t.Context(), Options{Err: io.Discard}); err == nil || err.Error() != "it has no socket to serve" {
		t.Errorf("got %v", err)
	}
}
