package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"shoal/internal/api"
	"shoal/internal/daemon"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/peer"
	"shoal/internal/store"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"shoal": main})
}

// The scripts of testdata read like a terminal. Each runs with a swarm server of its own, at $SHOAL_SERVER.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			addr, err := freeAddr()
			e.Setenv("SHOAL_SERVER", addr)
			e.Setenv("ADDR", addr)
			other, otherErr := freeAddr()
			e.Setenv("ADDR2", other)
			e.Setenv("NOBODY", "127.0.0.1:1")
			e.Setenv("SHOAL_NO_LAN", "true")
			e.Setenv("SHOAL_STATE", filepath.Join(e.WorkDir, "state"))
			return errors.Join(err, otherErr)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await":    await,
			"keep":     scriptKeep,
			"next":     scriptNext,
			"until":    until,
			"fits":     fits,
			"mkrandom": mkrandom,
			"waitport": waitPort,
		},
	})
}

func freeAddr() (string, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// await waits until the program prints, to its standard output: await REGEXP PROGRAM ARGS...
func await(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: await TEXT PROGRAM ARGS...")
	}
	for range 300 {
		_ = ts.Exec(args[1], args[2:]...)
		if regexp.MustCompile("(?m)" + args[0]).MatchString(ts.ReadFile("stdout")) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%v never printed %q; last: %s%s", args[1:], args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
}

// waitPort waits until something listens at an address.
func waitPort(ts *testscript.TestScript, _ bool, args []string) {
	for range 300 {
		if conn, err := net.Dial("tcp4", args[0]); err == nil {
			conn.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("nothing listens on %s", args[0])
}

// mkrandom makes a file of so many bytes.
func mkrandom(ts *testscript.TestScript, _ bool, args []string) {
	var n int
	if _, err := fmt.Sscan(args[1], &n); err != nil {
		ts.Fatalf("%v", err)
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 31 >> 4)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

func TestEveryErrorHasItsCodeAndExitStatus(t *testing.T) {
	a := netip.MustParseAddrPort("10.0.0.5:50002")
	two := &node.TwoContentsError{Name: "model.bin", Contents: []node.Content{
		{Answer: peer.Answer{Chunks: 2, Last: 5}, Holders: []netip.AddrPort{a, netip.AddrPortFrom(a.Addr(), 1)}},
		{Answer: peer.Answer{Chunks: 1, Last: 7}, Holders: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.6:50002")}},
	}}
	for _, c := range []struct {
		err  error
		code string
		exit int
		says string
	}{
		{&usageError{"--x: no"}, "E-USAGE", 2, "--x: no"},
		{&node.ServerError{Server: "h:1", Err: syscall.ECONNREFUSED}, "E-NO-SERVER", 5, "nothing listens"},
		{&node.ServerError{Server: "h:1", Err: &net.DNSError{Name: "h", IsNotFound: true}}, "E-NO-SERVER", 5, "no such host"},
		{&node.ListenError{Addr: "h:1", Err: syscall.EADDRINUSE}, "E-LISTEN", 2, "in use"},
		{&node.NotFoundError{Name: "n\x1b[2J", Asked: 3}, "E-NAME-NOT-FOUND", 3, `n\x1b[2J`},
		{two, "E-TWO-CONTENTS", 4, "--from 10.0.0.5:50002 --from 10.0.0.5:1 model.bin"},
		{&node.DigestError{Path: "f", Algorithm: "sha256", Want: []byte{1}, Got: []byte{2}}, "E-VERIFY", 6, "--restart"},
		{fmt.Errorf("x: %w", store.ErrMismatch), "E-SOURCE-CHANGED", 6, "--restart"},
		{&store.SpaceError{Path: "/d/f", Need: 3 << 30, Free: 1 << 30}, "E-NO-SPACE", 7, "free 2.0 GiB"},
		{fmt.Errorf("write: %w", syscall.ENOSPC), "E-NO-SPACE", 7, "run the same command again"},
		{fmt.Errorf("write: %w", syscall.EFBIG), "E-FILE-TOO-BIG", 7, "ulimit"},
		{fmt.Errorf("open /x: %w", fs.ErrPermission), "E-PERM", 8, "/x"},
		{fmt.Errorf("open /x: %w", syscall.EROFS), "E-READONLY", 8, "/x"},
		{fmt.Errorf("read /x: %w", syscall.EIO), "E-DISK", 1, "read /x"},
		{
			&node.ServerError{Server: "h:1", Err: node.AttemptsError{{Addr: "10.0.0.1:1", Err: syscall.ECONNREFUSED}, {Addr: "[::1]:1", Err: syscall.EHOSTUNREACH}}},
			"E-NO-SERVER", 5, "10.0.0.1:1: connection refused: the machine answers, nothing listens on that port; [::1]:1: no route to that machine",
		},
		{fmt.Errorf("/x: %w, number 7", store.ErrLocked), "E-LOCKED", 8, "number 7"},
		{fmt.Errorf("%w for 3s", node.ErrNoProgress), "E-STALLED", 10, "run the same command again"},
		{fmt.Errorf("/x: %w", store.ErrExists), "E-EXISTS", 11, "--overwrite"},
		{fmt.Errorf("j: %w", store.ErrNewer), "E-STATE-NEWER", 12, "newer"},
		{&signalError{syscall.SIGINT}, "E-STOPPED", 130, "interrupt"},
		{&signalError{syscall.SIGTERM}, "E-STOPPED", 143, "terminated"},
		{&identity.HeldError{Dir: "/s", By: "process 7"}, "E-LOCKED", 8, "process 7"},
		{&daemon.HeldError{Name: "f", Path: "/d/f\x1b"}, "E-EXISTS", 11, `/d/f\x1b`},
		{&daemon.SeveralError{What: "two swarms", Chosen: []string{"abcdefghijk"}}, "E-USAGE", 2, "--swarm abcdefgh"},
		{&daemon.Failure{Code: "E-X", Exit: 9, What: "from\nthe peer", Next: "go on"}, "E-X", 9, `from\nthe peer`},
		{&configError{"p.toml", errors.New("bad")}, "E-CONFIG", 2, "p.toml: bad"},
		{daemon.ErrNoSwarm, "E-NOT-MEMBER", 9, "in no swarm"},
		{daemon.ErrNoTransfer, "E-NO-TRANSFER", 3, "shoal status"},
		{daemon.ErrFull, "E-QUOTA", 7, "shoal remove"},
		{daemon.ErrBusy, "E-BUSY", 5, "too many"},
		{daemon.ErrEnded, "E-NO-PEER", 5, "shoal peer"},
		{daemon.ErrWatched, "E-USAGE", 2, "watched folder"},
		{daemon.ErrNotOurs, "E-USAGE", 2, "--data"},
		{fmt.Errorf("%w: x", daemon.ErrBadRequest), "E-USAGE", 2, "x"},
		{daemon.ErrStateNewer, "E-STATE-NEWER", 12, "newer"},
		{daemon.ErrState, "E-STATE", 1, "move that file away"},
		{api.ErrLongPath, "E-USAGE", 2, "too long"},
		{errors.New("what\nnow"), "E-INTERNAL", 1, `what\nnow`},
	} {
		f := explain(c.err)
		all := f.What + "\n" + f.Cause + "\n" + f.Next
		if f.Code != c.code || f.Exit != c.exit || !strings.Contains(all, c.says) {
			t.Errorf("%v: %s, exit %d, saying %q; want %s, exit %d, saying %q", c.err, f.Code, f.Exit, all, c.code, c.exit, c.says)
		}
		if strings.ContainsAny(f.What+f.Cause+f.Next, "\n\x1b") {
			t.Errorf("%v: not one clean line each: %q", c.err, all)
		}
		if f.Next == "" && f.Code != "E-STOPPED" {
			t.Errorf("%v: says nothing to do next", c.err)
		}
	}
}

func TestShellQuoteIsWhatAShellReads(t *testing.T) {
	for in, want := range map[string]string{
		"a.img": "a.img", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "$(x)": "'$(x)'", "-n": "-- -n", "-a b": "-- '-a b'", "a\x1b'": `$'a\x1b\''`,
	} {
		if got := shellQuote(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestOutputFlag(t *testing.T) {
	dir := t.TempDir()
	for output, want := range map[string][2]string{
		".":                           {".", "a.img"},
		dir:                           {dir, "a.img"},
		filepath.Join(dir, "b.img"):   {dir, "b.img"},
		filepath.Join(dir, "c") + "/": {filepath.Join(dir, "c") + "/", "a.img"},
	} {
		gotDir, gotFile := target(output, "a.img")
		if diff := cmp.Diff(want, [2]string{gotDir, gotFile}); diff != "" {
			t.Errorf("-o %s: %s", output, diff)
		}
	}
}

// Every command begins its help with examples, and has every flag as a variable too.
func TestEveryCommandHasExamples(t *testing.T) {
	root := newRoot(&env{stdout: io.Discard, stderr: io.Discard, screen: newScreen(io.Discard)})
	for _, cmd := range append([]*cobra.Command{root}, root.Commands()...) {
		if cmd.Example == "" {
			t.Errorf("%s has no examples", cmd.Name())
		}
		if len(cmd.Short) > 80 {
			t.Errorf("%s: its short help has %d characters", cmd.Name(), len(cmd.Short))
		}
	}
}

func TestFlagsComeFromTheEnvironmentUnlessGiven(t *testing.T) {
	world := map[string]string{"SHOAL_SERVER": "h:1", "SHOAL_MAX_MEMBERS": "5", "SHOAL_BAD": "x"}
	lookup := func(name string) (string, bool) { v, ok := world[name]; return v, ok }
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	server, most := f.String("server", "", ""), f.Int("max-members", 0, "")
	if err := f.Parse([]string{"--server", "g:2"}); err != nil {
		t.Fatal(err)
	}
	if err := flagsFromEnvironment(f, lookup); err != nil || *server != "g:2" || *most != 5 {
		t.Errorf("%q, %d, %v", *server, *most, err)
	}
	f.Int("bad", 0, "")
	var usage *usageError
	if err := flagsFromEnvironment(f, lookup); !errors.As(err, &usage) {
		t.Errorf("a variable that is no number: %v", err)
	}
}

// The first signal ends the context, and nothing is left running.
func TestASignalEndsTheContext(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreTopFunction("os/signal.loop"), goleak.IgnoreTopFunction("os/signal.signal_recv"))
	ctx, stop := withSignals(context.Background(), func() {})
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	var s *signalError
	if !errors.As(context.Cause(ctx), &s) || s.signal != syscall.SIGTERM {
		t.Errorf("ended by %v", context.Cause(ctx))
	}
	stop()
	stop()
}
