package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptNext types what the last command's failure says to do next: next [N] [WORD=INSTEAD...]. N is which of its commands, if there are
// several; words that stand for something, such as LINK, are replaced.
func scriptNext(ts *testscript.TestScript, neg bool, args []string) {
	n := 1
	if len(args) > 0 {
		if k, err := strconv.Atoi(args[0]); err == nil {
			n, args = k, args[1:]
		}
	}
	var found [][]string
	for _, m := range regexp.MustCompile(`(?m)^ +next: +(.*)$`).FindAllStringSubmatch(ts.ReadFile("stderr")+ts.ReadFile("stdout"), -1) {
		found = append(found, commandsIn(m[1])...)
	}
	if len(found) < n {
		ts.Fatalf("%d commands in what the last one says to do next: %s", len(found), ts.ReadFile("stderr"))
	}
	cmd := found[n-1]
	for _, a := range args {
		from, to, _ := strings.Cut(a, "=")
		for i := range cmd {
			cmd[i] = strings.ReplaceAll(cmd[i], from, to)
		}
	}
	ts.Logf("shoal %v", cmd)
	switch err := ts.Exec("shoal", cmd...); {
	case err != nil && !neg:
		ts.Fatalf("%v: %v", cmd, err)
	case err == nil && neg:
		ts.Fatalf("%v did not fail", cmd)
	}
}

// keep puts what the last command printed into a variable: keep NAME.
func scriptKeep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keep NAME")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// until runs a program until it prints something, and interrupts it: until TEXT [LAST] PROGRAM ARGS..., where LAST, in slashes, is what
// it must have printed in the end.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: until TEXT /LAST/ PROGRAM ARGS...")
	}
	text, last := regexp.MustCompile("(?m)"+args[0]), regexp.MustCompile("(?m)"+strings.Trim(args[1], "/"))
	var path string
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if p := filepath.Join(dir, args[2]); path == "" {
			if _, err := os.Stat(p); err == nil {
				path = p
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args[3:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "SHOAL_SERVER", "SHOAL_STATE", "SHOAL_NO_LAN", "SHOAL_LISTEN"} {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	out := &watched{text: text, seen: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	ts.Check(cmd.Start())
	select {
	case <-out.seen:
		ts.Check(cmd.Process.Signal(syscall.SIGINT))
	case <-ctx.Done():
	}
	_ = cmd.Wait()
	if all := out.String(); !last.MatchString(all) {
		ts.Fatalf("%v: want %q in the end, got %s", args[2:], last, all)
	}
}

// watched is output that tells when a text is in it.
type watched struct {
	text *regexp.Regexp
	seen chan struct{}

	mu  sync.Mutex // guards all
	all bytes.Buffer
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.text.Match(w.all.Bytes())
	w.all.Write(b)
	if !before && w.text.Match(w.all.Bytes()) {
		close(w.seen)
	}
	return len(b), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.String()
}
