package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/swarm"
)

// answering serves connections until the test ends, and returns where.
func answering(t *testing.T, serve func(ctx context.Context, ln net.Listener)) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { serve(ctx, ln) })
	t.Cleanup(func() { cancel(); ln.Close(); running.Wait() })
	return ln.Addr().String()
}

func classicServer(ctx context.Context, ln net.Listener) {
	_ = swarm.NewServer(swarm.ServerConfig{}).Serve(ctx, ln)
}

func hangsUp(_ context.Context, ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Write([]byte("SSH-2.0-no\r\n"))
		conn.Close()
	}
}

// shoalAt runs a command line in this process.
func shoalAt(t *testing.T, state string, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	e := &env{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr}
	code = run(t.Context(), e, append([]string{"--state", state, "--no-lan"}, args...))
	return code, stdout.String(), stderr.String()
}

func TestAnotherProtocolIsCalledSo(t *testing.T) {
	dir := t.TempDir()
	states, err := identity.OpenStates(filepath.Join(dir, "server"))
	if err != nil {
		t.Fatal(err)
	}
	sw, err := states.Create()
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := sw.NewToken(identity.MemberRole, time.Hour, 0, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		serve func(context.Context, net.Listener)
		code  string
		exit  int
	}{{"classic", classicServer, "E-DOWNGRADE", exitTrust}, {"ssh", hangsUp, "E-PROTOCOL", exitIncompatible}} {
		t.Run(c.name, func(t *testing.T) {
			addr := answering(t, c.serve)
			link := identity.Link{Addrs: []string{addr}, Swarm: sw.ID(), Token: token}.String()
			for _, args := range [][]string{
				{"join", link},
				{"doctor", "--server", addr},
			} {
				code, _, errs := shoalAt(t, filepath.Join(dir, c.name), args...)
				if code != c.exit || !strings.HasPrefix(errs, "error["+c.code+"]: ") {
					t.Errorf("%v: %d, %s", args, code, errs)
				}
			}
		})
	}
}

// The next of E-DOWNGRADE is good for those who mean that server.
func TestAClassicServerCanBeAskedWhoIsThere(t *testing.T) {
	state, addr := filepath.Join(t.TempDir(), "state"), answering(t, classicServer)
	_, _, errs := shoalAt(t, state, "doctor", "--server", addr)
	_, next, _ := strings.Cut(errs, "next:  ")
	found := commandsIn(strings.TrimSpace(next))
	if len(found) != 1 {
		t.Fatal(errs)
	}
	if code, _, errs := shoalAt(t, state, found[0]...); code != 0 {
		t.Errorf("%v: %d, %s", found[0], code, errs)
	}
}

// A machine to which nobody can connect is told so, with a status of its own.
func TestTheDoctorFindsAFirewall(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	states, err := identity.OpenStates(state)
	if err != nil {
		t.Fatal(err)
	}
	sw, err := states.Create()
	if err != nil {
		t.Fatal(err)
	}
	addr := answering(t, func(ctx context.Context, ln net.Listener) {
		_ = node.NewServer(node.ServerConfig{Swarm: sw, Agent: "shoal/older"}).Serve(ctx, ln)
	})
	var stdout bytes.Buffer
	e := &env{stdout: &stdout, stderr: &stdout, screen: newScreen(&stdout), state: state, server: addr, alone: true}
	d := &doctor{e: e, dir: t.TempDir(), p: peerFlags{listen: "127.0.0.1:0", announce: 1}}
	var f *failure
	if err := d.run(t.Context()); !errors.As(err, &f) || f.Code != "E-FIREWALL" || f.Exit != exitUnreachable || !strings.Contains(f.What, "port 1:") {
		t.Errorf("%v\n%s", err, stdout.String())
	}
	for _, want := range []string{"problem  reach ", "connection is refused", "open TCP port 1 in the firewall", "note     version  this machine is " + agent() + "; the server is shoal/older"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, stdout.String())
		}
	}
}

func TestAServerOnItsUsualPortIsFound(t *testing.T) {
	addr := answering(t, hangsUp)
	if node.ServerAt(t.Context(), addr) || node.ClassicAt(t.Context(), addr) {
		t.Error("what is no server is called one")
	}
}
