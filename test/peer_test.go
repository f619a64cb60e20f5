//go:build linux

package e2e_test

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// peerMachine is a state folder with a long-running peer on it.
type peerMachine struct {
	t     *testing.T
	state string
	peer  *process
}

func (m *peerMachine) start(args ...string) {
	m.t.Helper()
	m.peer = command{
		args: append([]string{"peer", "--json", "--web", "", "--server-listen", "", "--listen", "127.0.0.1:0"}, args...), env: []string{"SHOAL_STATE=" + m.state},
	}.start(m.t)
	m.peer.await("running", is("running"))
}

// run runs a command on the machine, and returns it when it has ended well.
func (m *peerMachine) run(args ...string) *process {
	m.t.Helper()
	p := command{args: append(args, "--json"), env: []string{"SHOAL_STATE=" + m.state}}.start(m.t)
	if code := p.exit(); code != 0 {
		m.t.Fatalf("%v ended with %d", args, code)
	}
	return p
}

// transfers returns the states of what the peer has, by name.
func (m *peerMachine) transfers() map[string]string {
	m.t.Helper()
	p := command{args: []string{"status", "--json"}, env: []string{"SHOAL_STATE=" + m.state}}.start(m.t)
	if code := p.exit(); code != 0 && code != 5 { // 5: it does not have the swarm's server yet; it tells of its list all the same
		m.t.Fatalf("status ended with %d", code)
	}
	out, _ := p.printed()
	states := make(map[string]string)
	for _, line := range strings.Split(out, "\n") {
		var row struct{ T, Name, State string }
		if json.Unmarshal([]byte(line), &row) == nil && row.T == "transfer" {
			states[row.Name] = row.State
		}
	}
	return states
}

// newPeers starts a swarm server, and peers on machines that have joined.
func newPeers(t *testing.T, n int) []*peerMachine {
	t.Helper()
	server := command{args: []string{"server", "--json", "--listen", ownAddress() + ":0"}}.start(t)
	link := server.await("listening", is("listening")).Link
	var out []*peerMachine
	for range n {
		m := &peerMachine{t: t, state: newState()}
		m.run("join", link)
		m.start()
		out = append(out, m)
	}
	return out
}

// A peer that is killed at any instant, again and again, finishes what it was told to fetch, and gives it.
func TestAKilledPeerGoesOn(t *testing.T) {
	t.Parallel()
	const size = 96 << 20
	all := newPeers(t, 2)
	a, b := all[0], all[1]
	path, dir := filepath.Join(t.TempDir(), "big.img"), t.TempDir()
	write(t, path, size, 7)
	a.run("share", path)
	get := command{args: []string{"get", "big.img", "-o", dir, "--json"}, env: []string{"SHOAL_STATE=" + b.state}}.start(t)
	eventually(t, "the peer has taken the download on", func() bool { return b.transfers()["big.img"] != "" })
	kills := 0
	for dice := rand.New(rand.NewPCG(1, 2)); kills < 12; kills++ {
		<-time.After(time.Duration(dice.IntN(150)) * time.Millisecond)
		b.peer.kill()
		b.start()
		if kills == 5 {
			a.peer.kill()
			a.start()
		}
	}
	get.kill() // it lost its peer, and has said so, or goes on with the new one
	eventually(t, "the download is complete", func() bool { return b.transfers()["big.img"] == "complete" })
	sameContent(t, filepath.Join(dir, "big.img"), path)
	holdsOnly(t, dir, "big.img")
	if s := a.transfers()["big.img"]; s != "seeding" {
		t.Errorf("the source is %s", s)
	}
	// In its next life it is the only source.
	b.peer.kill()
	b.start()
	a.peer.signal(syscall.SIGTERM)
	if code := a.peer.exit(); code != 0 {
		t.Errorf("SIGTERM ended it with %d", code)
	}
	other := t.TempDir()
	b.run("get", "big.img", "-o", other, "--alone", "--once")
	sameContent(t, filepath.Join(other, "big.img"), path)
}

// So it is with a directory; and what was shared of one is shared in the next life.
func TestAKilledPeerGoesOnWithADirectory(t *testing.T) {
	t.Parallel()
	all := newPeers(t, 2)
	a, b := all[0], all[1]
	src, dir := filepath.Join(t.TempDir(), "d"), t.TempDir()
	names := []string{"a", "b", "sub/c", "sub/sub/d"}
	for i, name := range names {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(src, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(src, name), 12<<20, byte(i+1))
	}
	a.run("share", src)
	get := command{args: []string{"get", "d", "-o", dir, "--json"}, env: []string{"SHOAL_STATE=" + b.state}}.start(t)
	eventually(t, "the peer has taken the download on", func() bool { return b.transfers()["d"] != "" })
	dice := rand.New(rand.NewPCG(3, 4))
	for kills := range 6 {
		<-time.After(time.Duration(dice.IntN(150)) * time.Millisecond)
		b.peer.kill()
		b.start()
		if kills == 2 {
			a.peer.kill()
			a.start()
		}
	}
	get.kill()
	eventually(t, "the download is complete", func() bool { return b.transfers()["d"] == "complete" })
	for _, name := range names {
		sameContent(t, filepath.Join(dir, "d", name), filepath.Join(src, name))
	}
	holdsOnly(t, dir, "d")
	if s := a.transfers()["d"]; s != "seeding" {
		t.Errorf("the source is %s", s)
	}
	b.peer.kill()
	b.start()
	a.peer.kill() // in its next life it is the only source
	other := t.TempDir()
	b.run("get", "d", "-o", other, "--alone", "--once", "--wait")
	sameContent(t, filepath.Join(other, "d", "sub/c"), filepath.Join(src, "sub/c"))
}

// Ctrl-C ends get, not the download.
func TestCtrlCLeavesTheDownloadToThePeer(t *testing.T) {
	t.Parallel()
	b := newPeers(t, 1)[0]
	get := command{args: []string{"get", "--wait", "later.img", "-o", t.TempDir()}, env: []string{"SHOAL_STATE=" + b.state}}.start(t)
	eventually(t, "the peer has taken the download on", func() bool { return b.transfers()["later.img"] == "waiting" })
	get.signal(os.Interrupt)
	if code := get.exit(); code != 130 {
		t.Errorf("it ended with %d", code)
	}
	if _, talk := get.printed(); !strings.Contains(talk, "the peer of this machine goes on with") {
		t.Errorf("it said %q", talk)
	}
	if s := b.transfers()["later.img"]; s != "waiting" {
		t.Errorf("the download is %s", s)
	}
}

// What lies in a watched folder is shared; SIGHUP takes up a new configuration, and leaves the old one where the new is wrong.
func TestFoldersAndReload(t *testing.T) {
	t.Parallel()
	m := newPeers(t, 1)[0]
	m.peer.signal(syscall.SIGTERM)
	m.peer.exit()
	one, two, config := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "peer.toml")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("folders = ['" + one + "']\n[limits]\nup = '10MiB/s'\n[[limits.window]]\ndays = 'mon-fri'\nfrom = '08:00'\nto = '18:00'\nup = '1MiB/s'\n")
	m.start("--config", config)
	write(t, filepath.Join(one, "one.img"), 1000, 1)
	write(t, filepath.Join(two, "two.img"), 1000, 2)
	eventually(t, "one.img is shared", func() bool { return m.transfers()["one.img"] == "seeding" })
	put("folders = ['" + two + "']\nnonsense = 1\n")
	m.peer.signal(syscall.SIGHUP)
	eventually(t, "the peer says what is wrong", func() bool {
		out, talk := m.peer.printed()
		return strings.Contains(out+talk, "nonsense is no setting")
	})
	if s := m.transfers(); s["one.img"] != "seeding" {
		t.Errorf("a wrong configuration has changed something: %v", s)
	}
	put("folders = ['" + two + "']\n")
	m.peer.signal(syscall.SIGHUP)
	eventually(t, "two.img is shared, and one.img is not", func() bool {
		s := m.transfers()
		return s["two.img"] == "seeding" && s["one.img"] == ""
	})
	if err := os.Remove(filepath.Join(two, "two.img")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what has vanished is withdrawn", func() bool { return len(m.transfers()) == 0 })
}

// systemd is told how the peer is; the signs of life come of its loop.
func TestWhatSystemdIsTold(t *testing.T) {
	t.Parallel()
	m := newPeers(t, 1)[0]
	m.peer.signal(syscall.SIGTERM)
	m.peer.exit()
	socket := newNotifySocket(t)
	m.peer = command{
		args: []string{"peer", "--json", "--web", "", "--listen", "127.0.0.1:0"},
		env:  []string{"SHOAL_STATE=" + m.state, "NOTIFY_SOCKET=" + socket.path, "WATCHDOG_USEC=3000000"},
	}.start(t)
	socket.await("READY=1")
	socket.await("STATUS=0 shares, 0 downloads, 0 peers")
	socket.await("WATCHDOG=1")
	m.peer.signal(syscall.SIGHUP)
	socket.await("RELOADING=1\nMONOTONIC_USEC=")
	socket.await("READY=1")
	m.peer.signal(syscall.SIGTERM)
	socket.await("STOPPING=1")
	if code := m.peer.exit(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
}
