//go:build linux

package e2e_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// host is a machine in a swarm: what it has is in its folder, what it is in its state.
type host struct {
	t          *testing.T
	dir, state string
	within     []string
	env        []string
}

func newHost(t *testing.T, within []string) host {
	t.Helper()
	return host{t: t, dir: t.TempDir(), state: newState(), within: within}
}

// shoal starts a command on the machine.
func (h host) shoal(args ...string) *process {
	h.t.Helper()
	return command{args: append(args, "--json", "--state", h.state), within: h.within, env: h.env}.start(h.t)
}

func (h host) path(name string) string { return filepath.Join(h.dir, name) }

func (h host) file(name string, size int) (path string, b []byte) {
	h.t.Helper()
	b = make([]byte, size)
	_, _ = rand.Read(b)
	path = h.path(name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path, b
}

// share starts a share that is a swarm of its own on loopback, and returns the link of its file.
func (h host) share(path string, args ...string) (p *process, link string) {
	h.t.Helper()
	p = h.shoal(append([]string{"share", path, "--server-listen", ownAddress() + ":0", "--listen", "127.0.0.1:0"}, args...)...)
	return p, p.await("link", is("link")).Link
}

func (h host) get(args ...string) *process {
	h.t.Helper()
	return h.shoal(append([]string{"get", "-o", h.dir, "--once", "--listen", "127.0.0.1:0"}, args...)...)
}

// network makes machines on one switch, with the addresses 10.0.0.1 and so on.
func network(t *testing.T, n int) []machine {
	t.Helper()
	_, out := switched(t, n)
	return out
}

// switched is network with the machine that is the switch; its ports are port0 and so on.
func switched(t *testing.T, n int) (hub machine, out []machine) {
	t.Helper()
	hub = newMachine(t)
	hub.run("ip", "link", "add", "switch", "type", "bridge")
	hub.run("ip", "link", "set", "switch", "up")
	for i := range n {
		m := newMachine(t)
		port := "port" + strconv.Itoa(i)
		hub.run("ip", strings.Fields("link add "+port+" type veth peer name eth0 netns "+strconv.Itoa(m.pid))...)
		hub.run("ip", "link", "set", port, "master", "switch", "up")
		m.run("ip", "addr", "add", fmt.Sprintf("10.0.0.%d/24", i+1), "dev", "eth0")
		m.run("ip", "link", "set", "eth0", "up")
		out = append(out, m)
	}
	return hub, out
}

// The source and the server go in the middle of a download: who stays gives the rest.
func TestWhoStaysGivesTheRestWhenTheSourceGoes(t *testing.T) {
	t.Parallel()
	requireSpaces(t, syscall.CLONE_NEWNET, "ip", "nsenter", "sh", "tc")
	machines := network(t, 3)
	a, b, c := newHost(t, machines[0].within()), newHost(t, machines[1].within()), newHost(t, machines[2].within())
	path, _ := a.file("f.img", 24<<20)
	source := a.shoal("share", path)
	link := source.await("link", is("link")).Link
	b.shoal("get", link, "-o", b.dir, "--stay").await("done", is("done"))
	for _, m := range machines[:2] { // slowly, so that A can be gone in the middle of it
		m.run("tc", strings.Fields("qdisc add dev eth0 root tbf rate 40mbit burst 64kb latency 200ms")...)
	}
	get := c.shoal("get", link, "-o", c.dir)
	get.await("some of it", func(e event) bool { return e.T == "progress" && e.Done > e.Total/10 })
	source.kill()
	get.succeeds()
	sameContent(t, c.path("f.img"), path)
}

// change makes an older version of some bytes: every hundredth piece differs.
func change(b []byte, piece int) (old []byte, bytesChanged int64) {
	old = bytes.Clone(b)
	for at := 0; at < len(b); at += 100 * piece {
		old[at+17] ^= 1
		bytesChanged += int64(min(piece, len(b)-at))
	}
	return old, bytesChanged
}

func TestOverwriteFetchesOnlyWhatDiffers(t *testing.T) {
	t.Parallel()
	const size, piece = 40 << 20, 64 << 10
	a := newHost(t, nil)
	path, want := a.file("f.img", size)
	_, link := a.share(path)
	older, changed := change(want, piece)
	for name, c := range map[string]struct {
		old     []byte
		fetched int64
	}{
		"damaged":   {append(append(bytes.Clone(want[:5<<20]), make([]byte, 1000)...), want[5<<20+1000:]...), piece},
		"truncated": {want[:size/2+100], size - size/2},
		"longer":    {append(bytes.Clone(want), 1, 2, 3), 0},
		"older":     {older, changed},
		"empty":     {nil, size},
	} {
		t.Run(name, func(t *testing.T) {
			b := newHost(t, nil)
			if err := os.WriteFile(b.path("f.img"), c.old, 0o600); err != nil {
				t.Fatal(err)
			}
			b.get(link).fails(11, "E-EXISTS")
			if got, _ := os.ReadFile(b.path("f.img")); !bytes.Equal(got, c.old) {
				t.Fatal("the file was changed without --overwrite")
			}
			done := b.get(link, "--overwrite").succeeds()
			if done.Fetched != c.fetched {
				t.Errorf("%d bytes were fetched, want %d", done.Fetched, c.fetched)
			}
			sameContent(t, b.path("f.img"), path)
			onlyFile(t, b.dir, "f.img")
		})
	}
}

// A name that somebody else has chosen makes no hidden file, unless the user says so.
func TestANameFromElsewhereMakesNoHiddenFile(t *testing.T) {
	t.Parallel()
	a, b := newHost(t, nil), newHost(t, nil)
	path, _ := a.file("f.img", 1000)
	_, link := a.share(path, "--name", ".profile")
	b.get(link).fails(2, "E-USAGE")
	if _, err := os.Lstat(b.path(".profile")); err == nil {
		t.Fatal("the hidden file was made")
	}
	if code := b.shoal("get", link, "-o", b.path("f.img"), "--once", "--listen", "127.0.0.1:0").exit(); code != 0 {
		t.Fatal(code)
	}
	sameContent(t, b.path("f.img"), path)
	b.get(".profile").succeeds() // it was typed
}

// What crosses the network is what differs, and hardly more: an interface counts it.
func TestOnlyWhatDiffersCrossesTheWire(t *testing.T) {
	t.Parallel()
	requireSpaces(t, syscall.CLONE_NEWNET, "ip", "nsenter")
	const size, piece = 40 << 20, 64 << 10
	machines := network(t, 2)
	a, b := newHost(t, machines[0].within()), newHost(t, machines[1].within())
	path, want := a.file("f.img", size)
	p := a.shoal("share", path)
	link := p.await("link", is("link")).Link
	older, changed := change(want, piece)
	if err := os.WriteFile(b.path("f.img"), older, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := b.shoal("join", link).exit(); code != 0 {
		t.Fatal(code)
	}
	before := machines[1].received()
	if code := b.shoal("get", "f.img", "-o", b.dir, "--once", "--overwrite").exit(); code != 0 {
		t.Fatal(code)
	}
	sameContent(t, b.path("f.img"), path)
	// Headers, the manifest of 20 KiB and what the swarm's server says come on top.
	if got, most := machines[1].received()-before, changed+changed/10+100<<10; got < changed || got > most {
		t.Errorf("%d bytes came over the wire, %d differ", got, changed)
	}
}

// received returns the bytes that have come to a machine's interface.
func (m machine) received() int64 {
	m.t.Helper()
	p := command{path: "cat", args: []string{fmt.Sprintf("/proc/%d/net/dev", m.pid)}, within: m.within()}.start(m.t)
	p.exit()
	out, _ := p.printed()
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "eth0:"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				m.t.Fatal(err)
			}
			return n
		}
	}
	m.t.Fatalf("no eth0 in %s", out)
	return 0
}

func TestAFileThatIsThereIsSaidToBeThereFromTheStart(t *testing.T) {
	t.Parallel()
	a, b := newHost(t, nil), newHost(t, nil)
	path, _ := a.file("f.img", 3<<20)
	_, link := a.share(path)
	b.get(link).succeeds()
	p := b.get(link)
	if done := p.succeeds(); !done.Already || done.Fetched != 0 {
		t.Errorf("again: %+v", done)
	}
	if e := p.await("start", is("start")); e.Resumed != 3<<20 {
		t.Errorf("at the start %d bytes are said to be there", e.Resumed)
	}
}

func onlyFile(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != name {
			t.Errorf("%s is left in %s", e.Name(), dir)
		}
	}
}

// A downloader that is killed at any instant goes on where it was: what was verified is not fetched again, the name has the old file
// or the new one, and in the end nothing is left but the file.
func TestADownloadSurvivesBeingKilledAtAnyInstant(t *testing.T) {
	t.Parallel()
	const size, piece, kills = 24 << 20, 64 << 10, 100 // bench/long has thousands
	a := newHost(t, nil)
	path, want := a.file("f.img", size)
	_, link := a.share(path)
	seed := uint64(time.Now().UnixNano())
	chance := mrand.New(mrand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	older, _ := change(want, piece)
	for killed := 0; killed < kills; {
		b := newHost(t, nil)
		overwrite := chance.IntN(2) == 0
		var args []string
		if overwrite {
			args = []string{"--overwrite"}
			if err := os.WriteFile(b.path("f.img"), older, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var there int64 // bytes of whole pieces that the run before has left on disk
		for tries := 0; ; tries++ {
			p := b.get(append([]string{link}, args...)...)
			wait := time.Duration(chance.Int64N(int64(300 * time.Millisecond)))
			select {
			case <-p.done:
			case <-time.After(wait):
			}
			p.kill()
			killed++
			if got, err := os.ReadFile(b.path("f.img")); err == nil && !bytes.Equal(got, want) && !(overwrite && bytes.Equal(got, older)) {
				t.Fatalf("seed %d: after a kill the file has %d bytes that are neither the old nor the new ones", seed, len(got))
			} else if err != nil && overwrite {
				t.Fatalf("seed %d: after a kill the old file is gone: %v", seed, err)
			}
			p.mu.Lock()
			events := p.events
			p.mu.Unlock()
			complete := false
			for _, e := range events {
				if e.T == "start" && e.Resumed < there {
					t.Fatalf("seed %d: %d bytes were on disk, and only %d were found", seed, there, e.Resumed)
				}
				if e.T == "done" && e.Fetched > size-there {
					t.Fatalf("seed %d: %d bytes were on disk, and %d of %d were fetched", seed, there, e.Fetched, size)
				}
				complete = complete || e.T == "done"
			}
			if complete || tries == 20 {
				break
			}
			there = onDisk(t, b.dir, want, piece)
		}
		b.get(append([]string{link}, args...)...).succeeds()
		sameContent(t, b.path("f.img"), path)
		onlyFile(t, b.dir, "f.img")
	}
}

// onDisk returns how many bytes of a download are there in whole pieces, whatever its journal says: a process that is killed loses
// nothing that it has written.
func onDisk(t *testing.T, dir string, want []byte, piece int) (n int64) {
	t.Helper()
	if got, err := os.ReadFile(filepath.Join(dir, "f.img")); err == nil && bytes.Equal(got, want) {
		return int64(len(want))
	}
	partial, err := filepath.Glob(filepath.Join(dir, ".shoal-*", "data"))
	if err != nil || len(partial) == 0 {
		return 0
	}
	data, err := os.ReadFile(partial[0])
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < min(len(data), len(want)); at += piece {
		if end := min(at+piece, len(want)); end <= len(data) && bytes.Equal(data[at:end], want[at:end]) {
			n += int64(end - at)
		}
	}
	return n
}

func TestCurlGetsAndResumesAFileOverHTTPS(t *testing.T) {
	t.Parallel()
	_, err := exec.LookPath("curl")
	require(t, err == nil, "the tool curl")
	a := newHost(t, nil)
	path, _ := a.file("f.json", 3<<20+5)
	p, _ := a.share(path, "--http")
	web := p.await("http", is("http"))
	to := a.path("copy")
	curl := func(args ...string) (string, error) {
		out, err := exec.Command("curl", append([]string{"-sS", "--fail", "--cacert", web.CACert, "--resolve", web.Resolve}, args...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := curl(web.URL); err == nil {
		t.Errorf("without a token: %s", out)
	}
	token := []string{"-H", "Authorization: Bearer " + web.Token}
	if out, err := curl(append(token, "-r", "0-999999", "-o", to, web.URL)...); err != nil {
		t.Fatal(out, err)
	}
	if out, err := curl(append(token, "-C", "-", "-o", to, web.URL)...); err != nil {
		t.Fatal(out, err)
	}
	sameContent(t, to, path)
	out, err := curl(append(token, "-I", web.URL)...)
	id := a.shoal("id", to).await("id", is("id")).ID
	if err != nil || !strings.Contains(strings.ToLower(out), `etag: "`+id+`"`) || !strings.Contains(strings.ToLower(out), "content-type: application/json") {
		t.Errorf("HEAD: %s %v", out, err)
	}
	if out, err := exec.Command("curl", append(token, "-sS", "--resolve", web.Resolve, web.URL)...).CombinedOutput(); err == nil {
		t.Errorf("without the authority: %s", out)
	}
}

// A file of the swarm goes to a classic peer, and a classic peer's file to a machine of the swarm that asks for it with --classic.
func TestClassicAndSwarmAreBridgedOnOnePort(t *testing.T) {
	t.Parallel()
	s := newHost(t, nil)
	server := s.shoal("server", "--classic", "--listen", ownAddress()+":0")
	e := server.await("listening", is("listening"))
	a, c := newHost(t, nil), newHost(t, nil)
	if code := a.shoal("join", e.Link).exit(); code != 0 {
		t.Fatal(code)
	}
	path, _ := a.file("new.img", 5<<20)
	a.shoal("share", "--classic", path, "--listen", "127.0.0.1:0").await("sharing", is("sharing"))
	c.get("--classic", "--server", e.Addr, "--wait", "new.img").succeeds()
	sameContent(t, c.path("new.img"), path)

	old, _ := c.file("old.img", 3<<20)
	c.shoal("share", "--classic", "--server", e.Addr, old, "--listen", "127.0.0.1:0").await("sharing", is("sharing"))
	b := newHost(t, nil)
	if code := b.shoal("join", e.Link).exit(); code != 0 {
		t.Fatal(code)
	}
	done := b.get("--classic", "--wait", "old.img").succeeds()
	sameContent(t, b.path("old.img"), old)
	if done.Verified {
		t.Error("what came by the classic protocol is called verified")
	}
	if done := b.get("new.img").succeeds(); !done.Verified {
		t.Error("what came by our own protocol is not called verified")
	}
}

func TestWhoMayComeIn(t *testing.T) {
	t.Parallel()
	s := newHost(t, nil)
	server := s.shoal("server", "--listen", ownAddress()+":0")
	e := server.await("listening", is("listening"))
	one := s.shoal("link", "new", "--uses", "1").await("link", is("link")).Link
	a, b := newHost(t, nil), newHost(t, nil)
	for range 2 { // again with the same key
		if code := a.shoal("join", one).exit(); code != 0 {
			t.Fatal(code)
		}
	}
	b.shoal("join", one).fails(9, "E-NOT-MEMBER")
	b.shoal("join", s.shoal("link", "new", "--life", "1ns").await("link", is("link")).Link).fails(9, "E-NOT-MEMBER")
	other := newHost(t, nil).shoal("server", "--listen", ownAddress()+":0").await("listening", is("listening"))
	_, rest, _ := strings.Cut(strings.TrimPrefix(e.Link, "shoal://"), "/")
	b.shoal("join", "shoal://"+other.Addr+"/"+rest).fails(9, "E-KEY-MISMATCH")
	if code := b.shoal("join", e.Link).exit(); code != 0 {
		t.Fatal(code)
	}
	path, _ := b.file("f.img", 1000)
	sharing := b.shoal("share", path, "--listen", "127.0.0.1:0")
	sharing.await("sharing", is("sharing"))
	a.get("--wait", "f.img").succeeds()
	peer := ""
	eventually(t, "both are listed", func() bool {
		p := s.shoal("members")
		p.exit()
		out, _ := p.printed()
		for line := range strings.Lines(out) {
			if strings.Contains(line, `"shares":1`) {
				_, rest, _ := strings.Cut(line, `"peer":"`)
				peer, _, _ = strings.Cut(rest, `"`)
			}
		}
		return peer != ""
	})
	if code := s.shoal("members", "remove", peer).exit(); code != 0 {
		t.Fatal(code)
	}
	if code := sharing.exit(); code != 9 && code != 5 {
		t.Errorf("the removed member ended with %d", code)
	}
	b.shoal("ls").exit()
	if p := b.shoal("join", e.Link); p.exit() == 0 && b.shoal("ls").exit() == 0 {
		t.Error("a removed member can still come in")
	}
	if conn, err := net.DialTimeout("tcp", e.Addr, time.Second); err == nil {
		conn.Close()
	}
}
