//go:build linux

package e2e_test

import (
	"strings"
	"syscall"
	"testing"
)

// A machine behind a firewall that drops what comes to its port is told so, by the doctor and by its own share; so is one that
// has the wrong port of its server.
func TestAFirewallAndAWrongPortAreFound(t *testing.T) {
	t.Parallel()
	requireSpaces(t, syscall.CLONE_NEWNET, "ip", "nsenter", "sh")
	machines := network(t, 2)
	a, b := newHost(t, machines[0].within()), newHost(t, machines[1].within())
	server := a.shoal("server", "--listen", "10.0.0.1:50001")
	link := server.await("link", is("listening")).Link
	b.shoal("join", link).succeedsQuietly()

	b.shoal("doctor").succeedsQuietly()
	wrong := b.shoal("doctor", "--server", "10.0.0.1:5001")
	wrong.fails(5, "E-NO-SERVER")
	if out, _ := wrong.printed(); !strings.Contains(out, "answers at 10.0.0.1:50001: the port is wrong") || !strings.Contains(out, `"next":"shoal doctor --server 10.0.0.1:50001"`) {
		t.Errorf("it says %s", out)
	}
	b.shoal("doctor", "--server", "10.0.0.1:50001").succeedsQuietly() // which is what to do next

	machines[1].run("ip", strings.Fields("rule add ipproto tcp sport 50002 blackhole")...)
	closed := b.shoal("doctor")
	closed.fails(5, "E-FIREWALL")
	if out, _ := closed.printed(); !strings.Contains(out, `"check":"reach","level":"problem","code":"E-FIREWALL"`) || !strings.Contains(out, "drops the packets") {
		t.Errorf("it says %s", out)
	}
	path, _ := b.file("big.img", 100_000)
	share := b.shoal("share", path)
	share.await("that nobody can connect", is("note"))
	if out, _ := share.printed(); !strings.Contains(out, "others cannot connect to this machine on port 50002") {
		t.Errorf("it says %s", out)
	}
}

// succeedsQuietly waits for the end of a command that prints no result.
func (p *process) succeedsQuietly() {
	p.t.Helper()
	if code := p.exit(); code != 0 {
		out, errs := p.printed()
		p.t.Fatalf("%s ended with %d: %s%s", p.what, code, out, errs)
	}
}
