//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// onLAN returns a machine that uses its local network.
func onLAN(t *testing.T, m machine) host {
	t.Helper()
	h := newHost(t, m.within())
	h.env = []string{"SHOAL_NO_LAN=false"}
	return h
}

// serve starts the server of a swarm, and returns its link.
func (h host) serve() (p *process, link string) {
	h.t.Helper()
	p = h.shoal("server")
	return p, p.await("listening", is("listening")).Link
}

// abandoned makes a swarm of some machines of their own: they have joined, and its server is gone.
func abandoned(t *testing.T, server host, members ...host) {
	t.Helper()
	p, link := server.serve()
	for _, m := range members {
		if code := m.shoal("join", link).exit(); code != 0 {
			t.Fatalf("join ended with %d", code)
		}
	}
	p.kill()
}

// list returns what a command prints of a kind.
func (h host) list(kind string, args ...string) (out []event) {
	h.t.Helper()
	p := h.shoal(args...)
	if code := p.exit(); code != 0 {
		h.t.Fatalf("%s ended with %d", p.what, code)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if e.T == kind {
			out = append(out, e)
		}
	}
	return out
}

func saysAlone(t *testing.T, p *process) {
	t.Helper()
	eventually(t, "it says that no server answers", func() bool {
		_, errs := p.printed()
		return strings.Contains(errs, "no server of the swarm answers")
	})
}

// Two swarms are on one switch, and neither has a server. Those of one find each other, and nobody of the other.
func TestPeersFindEachOtherWithoutAServer(t *testing.T) {
	t.Parallel()
	requireSpaces(t, syscall.CLONE_NEWNET, "ip", "nsenter", "sh")
	ms := network(t, 6)
	server, a, b := onLAN(t, ms[0]), onLAN(t, ms[1]), onLAN(t, ms[2])
	otherServer, c, d := onLAN(t, ms[3]), onLAN(t, ms[4]), onLAN(t, ms[5])
	beside := onLAN(t, ms[1]) // on the same machine as a
	abandoned(t, server, a, b, beside)
	abandoned(t, otherServer, c, d)

	path, _ := a.file("f.img", 3<<20+17)
	otherPath, _ := c.file("f.img", 2<<20)
	only, _ := c.file("only.img", 1000)
	sharing, otherSharing := a.shoal("share", path), c.shoal("share", otherPath, only)
	id := sharing.await("sharing", is("sharing")).ID
	saysAlone(t, sharing)
	otherSharing.await("sharing", func(e event) bool { return e.Name == "only.img" })

	files := b.list("file", "ls")
	if len(files) != 1 || files[0].Name != "f.img" || files[0].ID != id || files[0].Holders != 1 {
		t.Errorf("ls: %+v", files)
	}
	if peers := b.list("peer", "peers"); len(peers) != 1 || peers[0].Shares != 1 {
		t.Errorf("peers: %+v", peers)
	}
	if st := b.list("swarm", "status"); len(st) != 1 || st[0].Reachable {
		t.Errorf("status: %+v", st)
	}
	for _, what := range []string{"f.img", id, id[:8]} {
		to := b.path(what + ".copy")
		get := b.shoal("get", what, "-o", to, "--once")
		if done := get.succeeds(); !done.Verified {
			t.Error("it is not called verified")
		}
		saysAlone(t, get)
		sameContent(t, to, path)
	}
	beside.shoal("get", "f.img", "-o", beside.dir, "--once").succeeds()
	sameContent(t, beside.path("f.img"), path)
	d.shoal("get", "f.img", "-o", d.dir, "--once").succeeds()
	sameContent(t, d.path("f.img"), otherPath)
	b.shoal("get", "only.img", "-o", b.dir).fails(3, "E-NAME-NOT-FOUND")
	b.shoal("get", "f.img", "-o", b.dir, "--no-lan").fails(5, "E-NO-SERVER")
	b.shoal("ls", "--no-lan").fails(5, "E-NO-SERVER")
	sharing.kill()
	if e := b.shoal("get", "f.img", "-o", b.dir).fails(5, "E-NO-SERVER"); !strings.Contains(e.Cause, "on this network") {
		t.Errorf("the cause is %q", e.Cause)
	}
}

// A member that fetches passes on what it has, and a file that is there before anybody asks for it is not needed: --wait waits for it.
func TestAThirdGetsFromTheSecondWithoutAServer(t *testing.T) {
	t.Parallel()
	requireSpaces(t, syscall.CLONE_NEWNET, "ip", "nsenter", "sh")
	ms := network(t, 4)
	server, a, b, c := onLAN(t, ms[0]), onLAN(t, ms[1]), onLAN(t, ms[2]), onLAN(t, ms[3])
	abandoned(t, server, a, b, c)
	waiting := b.shoal("get", "f.img", "-o", b.dir, "--wait", "--stay")
	saysAlone(t, waiting)
	path, _ := a.file("f.img", 5<<20)
	sharing := a.shoal("share", path)
	waiting.await("done", is("done"))
	sharing.kill()
	c.shoal("get", "f.img", "-o", c.dir, "--once").succeeds()
	sameContent(t, c.path("f.img"), path)
}

// The server comes back: what was shared without it is known to it, once.
func TestTheServerComesBack(t *testing.T) {
	t.Parallel()
	requireSpaces(t, syscall.CLONE_NEWNET, "ip", "nsenter", "sh")
	ms := network(t, 3)
	server, a, b := onLAN(t, ms[0]), onLAN(t, ms[1]), onLAN(t, ms[2])
	abandoned(t, server, a, b)
	path, _ := a.file("f.img", 1<<20)
	sharing := a.shoal("share", path)
	sharing.await("sharing", is("sharing"))
	staying := b.shoal("get", "f.img", "-o", b.dir, "--stay")
	staying.await("done", is("done"))
	server.serve()
	eventually(t, "the server knows both, and each once", func() bool {
		files := b.list("file", "ls", "--no-lan")
		return len(files) == 1 && files[0].Holders == 2
	})
	to := b.path("again")
	b.shoal("get", "f.img", "-o", to, "--once", "--no-lan").succeeds()
	sameContent(t, to, path)
}

// The server has another address: its members find it on the local network.
func TestAServerWhoseAddressHasChangedIsFound(t *testing.T) {
	t.Parallel()
	requireSpaces(t, syscall.CLONE_NEWNET, "ip", "nsenter", "sh")
	ms := network(t, 3)
	server, a, b := onLAN(t, ms[0]), onLAN(t, ms[1]), onLAN(t, ms[2])
	abandoned(t, server, a, b)
	ms[0].run("ip", "addr", "flush", "dev", "eth0")
	ms[0].run("ip", "addr", "add", fmt.Sprintf("10.0.0.%d/24", 77), "dev", "eth0")
	server.serve()
	path, _ := a.file("f.img", 1<<20)
	a.shoal("share", path).await("sharing", is("sharing"))
	if st := b.list("swarm", "status"); len(st) != 1 || !st[0].Reachable {
		t.Errorf("status: %+v", st)
	}
	b.shoal("get", "f.img", "-o", b.dir, "--once").succeeds()
	sameContent(t, b.path("f.img"), path)
}

// A network without a single address but those that IPv6 gives to each machine by itself.
func TestPeersFindEachOtherByIPv6Alone(t *testing.T) {
	t.Parallel()
	requireSpaces(t, syscall.CLONE_NEWNET, "ip", "nsenter", "sh")
	_, err := os.Stat("/proc/sys/net/ipv6")
	require(t, err == nil, "IPv6")
	ms := network(t, 3)
	server, a, b := onLAN(t, ms[0]), onLAN(t, ms[1]), onLAN(t, ms[2])
	abandoned(t, server, a, b)
	for _, m := range ms {
		m.run("ip", "addr", "flush", "dev", "eth0", "scope", "global")
	}
	path, _ := a.file("f.img", 1<<20)
	a.shoal("share", path).await("sharing", is("sharing"))
	b.shoal("get", "f.img", "-o", b.dir, "--once").succeeds()
	sameContent(t, b.path("f.img"), path)
}
