//go:build linux

package e2e_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// served starts a server on loopback, and returns its link.
func served(t *testing.T) (link string) {
	t.Helper()
	return newHost(t, nil).shoal("server", "--listen", ownAddress()+":0").await("listening", is("listening")).Link
}

// member makes a machine that has joined.
func member(t *testing.T, link string, within []string) host {
	t.Helper()
	h := newHost(t, within)
	h.shoal("join", link).succeedsQuietly()
	return h
}

// shares starts a share of a file by a machine that has joined, and waits until the swarm knows.
func (h host) shares(path string, args ...string) *process {
	h.t.Helper()
	p := h.shoal(append([]string{"share", path, "--listen", "127.0.0.1:0"}, args...)...)
	p.await("sharing", is("sharing"))
	return p
}

// onItsWay waits until some of a download is there, and not all.
func (p *process) onItsWay() {
	p.t.Helper()
	p.await("some of it", func(e event) bool { return e.T == "progress" && e.Done > 0 && e.Done < e.Total })
}

// unseen makes what a machine sends to an address vanish: it goes to a machine that is not there. Nobody is told.
func (m machine) unseen(addr string) {
	m.t.Helper()
	m.run("ip", strings.Fields("neigh replace "+addr+" lladdr 02:00:00:00:00:99 nud permanent dev eth0")...)
}

// Of two machines one does not hear the other: what B sends to the source is lost, and with it each attempt of either to connect. B has the file from
// another that fetches at the same time.
func TestWhoIsHeardInOneDirectionOnlyGetsTheFileFromOthers(t *testing.T) {
	t.Parallel()
	requireSpaces(t, syscall.CLONE_NEWNET, "ip", "nsenter", "sh")
	ms := network(t, 4)
	server, a, b, c := newHost(t, ms[0].within()), newHost(t, ms[1].within()), newHost(t, ms[2].within()), newHost(t, ms[3].within())
	_, link := server.serve()
	for _, h := range []host{a, b, c} {
		h.shoal("join", link).succeedsQuietly()
	}
	path, _ := a.file("f.img", 12<<20)
	a.shoal("share", path).await("sharing", is("sharing"))
	ms[2].unseen("10.0.0.2")
	gets := []*process{b.shoal("get", "f.img", "-o", b.dir, "--once"), c.shoal("get", "f.img", "-o", c.dir, "--stay")}
	gets[1].await("done", is("done"))
	if done := gets[0].succeeds(); done.Sources != 1 {
		t.Errorf("it came from %d", done.Sources)
	}
	sameContent(t, b.path("f.img"), path)
}

// Large packets to and from the source vanish, small ones do not: connections are made, and stall. Who is not behind that has the file from
// another; alone with such a source, it says that nobody can be reached.
func TestALineThatLosesLargePacketsStallsNobodyElse(t *testing.T) {
	t.Parallel()
	requireSpaces(t, syscall.CLONE_NEWNET, "ip", "nsenter", "sh")
	hub, ms := switched(t, 4)
	server, a, b, c := newHost(t, ms[0].within()), newHost(t, ms[1].within()), newHost(t, ms[2].within()), newHost(t, ms[3].within())
	_, link := server.serve()
	for _, h := range []host{a, b, c} {
		h.shoal("join", link).succeedsQuietly()
	}
	path, _ := a.file("f.img", 8<<20)
	a.shoal("share", path).await("sharing", is("sharing"))
	second := c.shoal("get", "f.img", "-o", c.dir, "--stay")
	second.await("done", is("done"))
	for _, m := range ms[1:] { // packets of their own size, not such as are cut up later
		m.run("ip", strings.Fields("link set eth0 gso_max_segs 1")...)
	}
	hub.run("ip", strings.Fields("link set port1 mtu 600")...)
	get := b.shoal("get", "f.img", "-o", b.dir, "--once")
	if done := get.succeeds(); done.Sources != 1 {
		t.Errorf("it came from %d", done.Sources)
	}
	sameContent(t, b.path("f.img"), path)
	second.kill()
	alone := newHost(t, ms[2].within())
	alone.state = b.state
	alone.shoal("get", "f.img", "-o", alone.dir, "--timeout", "3s").fails(5, "E-NO-SOURCE")
}

// A network falls into halves. In each of them those who are there go on: through the server, or without it. When it is whole again, everybody knows
// everything.
func TestBothHalvesOfANetworkGoOnAndFindEachOtherAgain(t *testing.T) {
	t.Parallel()
	requireSpaces(t, syscall.CLONE_NEWNET, "ip", "nsenter", "sh")
	hub, ms := switched(t, 5)
	server, a, b, c, d := onLAN(t, ms[0]), onLAN(t, ms[1]), onLAN(t, ms[2]), onLAN(t, ms[3]), onLAN(t, ms[4])
	hub.run("ip", strings.Fields("link add other type bridge")...)
	hub.run("ip", strings.Fields("link add trunk0 type veth peer name trunk1")...)
	for _, port := range [][2]string{{"trunk0", "switch"}, {"trunk1", "other"}, {"port3", "other"}, {"port4", "other"}} {
		hub.run("ip", "link", "set", port[0], "master", port[1], "up")
	}
	hub.run("ip", strings.Fields("link set other up")...)
	_, link := server.serve()
	for _, h := range []host{a, b, c, d} {
		h.shoal("join", link).succeedsQuietly()
	}
	path, _ := a.file("f.img", 3<<20)
	a.shoal("share", path).await("sharing", is("sharing"))
	c.shoal("get", "f.img", "-o", c.dir, "--stay").await("done", is("done"))

	hub.run("ip", strings.Fields("link set trunk0 down")...)
	alone := d.shoal("get", "f.img", "-o", d.dir, "--once")
	alone.succeeds()
	saysAlone(t, alone)
	sameContent(t, d.path("f.img"), path)
	b.shoal("get", "f.img", "-o", b.dir, "--once").succeeds()
	sameContent(t, b.path("f.img"), path)
	eventually(t, "the server's half knows who is gone", func() bool {
		files := b.list("file", "ls", "--no-lan")
		return len(files) == 1 && files[0].Holders == 1
	})
	later, _ := c.file("g.img", 1<<20)
	second := c.shoal("share", later)
	second.await("sharing", is("sharing"))

	hub.run("ip", strings.Fields("link set trunk0 up")...)
	eventually(t, "the server knows what is in both halves", func() bool {
		holders := make(map[string]int)
		for _, f := range b.list("file", "ls", "--no-lan") {
			holders[f.Name] = f.Holders
		}
		return holders["f.img"] == 2 && holders["g.img"] == 1
	})
	b.shoal("get", "g.img", "-o", b.dir, "--once", "--no-lan").succeeds()
	sameContent(t, b.path("g.img"), later)
}

// A machine gets another address while it shares. It is found at the new one, as the same peer.
func TestAMachineWhoseAddressChangesIsFoundAgain(t *testing.T) {
	t.Parallel()
	requireSpaces(t, syscall.CLONE_NEWNET, "ip", "nsenter", "sh")
	ms := network(t, 3)
	server, a, b := newHost(t, ms[0].within()), newHost(t, ms[1].within()), newHost(t, ms[2].within())
	_, link := server.serve()
	for _, h := range []host{a, b} {
		h.shoal("join", link).succeedsQuietly()
	}
	path, _ := a.file("f.img", 3<<20)
	a.shoal("share", path).await("sharing", is("sharing"))
	before := b.list("peer", "peers")
	ms[1].run("ip", strings.Fields("addr del 10.0.0.2/24 dev eth0")...)
	ms[1].run("ip", strings.Fields("addr add 10.0.0.22/24 dev eth0")...)
	b.shoal("get", "f.img", "-o", b.dir, "--once").succeeds()
	sameContent(t, b.path("f.img"), path)
	after := b.list("peer", "peers")
	if len(before) != 1 || len(after) != 1 || before[0].Peer != after[0].Peer {
		t.Errorf("it was %+v, and is %+v", before, after)
	}
}

// A source that sleeps for longer than others wait for it, as a laptop does, is forgotten; it comes back by itself when it wakes, and the download, which has
// nobody else, goes on. A source that is killed and started again is found again, too.
func TestALastSourceThatComesBackIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"it sleeps", "it is killed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			link := served(t)
			a, b := member(t, link, nil), member(t, link, nil)
			path, _ := a.file("f.img", 16<<20)
			source := a.shares(path)
			get := b.get("f.img", "--limit-down", "4MiB/s")
			get.onItsWay()
			forgotten := func() bool {
				files := b.list("file", "ls")
				return len(files) == 0 || files[0].Holders == 1 // who fetches
			}
			if how == "it sleeps" {
				source.signal(syscall.SIGSTOP)
				eventually(t, "it is forgotten", forgotten)
				source.signal(syscall.SIGCONT)
			} else {
				source.kill()
				eventually(t, "it is forgotten", forgotten)
				a.shares(path)
			}
			if done := get.succeeds(); done.Fetched > 17<<20 {
				t.Errorf("%d bytes were fetched", done.Fetched)
			}
			sameContent(t, b.path("f.img"), path)
		})
	}
}

// One of two sources has a tenth of the time: it is stopped nine times as long as it runs. The download does not fail for it.
func TestAStarvedSourceBesideAGoodOne(t *testing.T) {
	t.Parallel()
	link := served(t)
	a, b, c := member(t, link, nil), member(t, link, nil), member(t, link, nil)
	path, body := a.file("f.img", 24<<20)
	a.shares(path, "--limit-up", "8MiB/s")
	if err := os.WriteFile(b.path("f.img"), body, 0o600); err != nil {
		t.Fatal(err)
	}
	starved := b.shares(b.path("f.img"))
	get := c.get("f.img")
	for run := false; get.running(); run = !run {
		wait := 90 * time.Millisecond
		if run {
			wait /= 9
			starved.signal(syscall.SIGCONT)
		} else {
			starved.signal(syscall.SIGSTOP)
		}
		select {
		case <-get.done:
		case <-time.After(wait):
		}
	}
	starved.signal(syscall.SIGCONT)
	if done := get.succeeds(); done.Wasted > 2<<20 {
		t.Errorf("%d bytes came in vain", done.Wasted)
	}
	sameContent(t, c.path("f.img"), path)
	if !starved.running() {
		t.Error("it has ended")
	}
}

// A source that may have few files open gives to who is there while strangers take all connections that it has for them, and to others when
// they have gone.
func TestASourceWithFewDescriptorsGoesOnGiving(t *testing.T) {
	t.Parallel()
	link := served(t)
	few := []string{"sh", "-c", `ulimit -n 64; exec "$@"`, "sh"}
	a, b, c := member(t, link, few), member(t, link, nil), member(t, link, nil)
	path, _ := a.file("f.img", 12<<20)
	source := a.shares(path, "--limit-up", "4MiB/s")
	addr := source.listensOn()
	get := b.get("f.img")
	get.onItsWay()
	var strangers []net.Conn
	for i := range 200 { // from many addresses: the bound for one is lower
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(i), 1)}, Timeout: patience}
		if conn, err := d.Dial("tcp", addr); err == nil {
			strangers = append(strangers, conn)
		}
	}
	if len(strangers) < 64 {
		t.Fatalf("only %d strangers came", len(strangers))
	}
	get.succeeds()
	sameContent(t, b.path("f.img"), path)
	for _, conn := range strangers {
		conn.Close()
	}
	c.get("f.img").succeeds()
	sameContent(t, c.path("f.img"), path)
	if _, errs := source.printed(); strings.Contains(errs, "too many open files") {
		t.Errorf("it ran out of files: %s", lastLines(errs))
	}
}

// listensOn returns the address of a process's listening socket.
func (p *process) listensOn() string {
	p.t.Helper()
	sockets := make(map[string]bool)
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.cmd.Process.Pid))
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil {
			sockets[strings.Trim(strings.TrimPrefix(to, "socket:"), "[]")] = true
		}
	}
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) > 9 && f[3] == "0A" && sockets[f[9]] { // listening
			_, port, _ := strings.Cut(f[1], ":")
			n, _ := strconv.ParseUint(port, 16, 16)
			return fmt.Sprintf("127.0.0.1:%d", n)
		}
	}
	p.t.Fatalf("%s listens nowhere", p.what)
	return ""
}

// With a limit of memory that is far below what the file has, a download from several sources stays below 64 MiB.
func TestADownloadKeepsToLittleMemory(t *testing.T) {
	t.Parallel()
	link := served(t)
	a, b, c := member(t, link, nil), member(t, link, nil), member(t, link, nil)
	path, body := a.file("f.img", 192<<20)
	a.shares(path)
	if err := os.WriteFile(b.path("f.img"), body, 0o600); err != nil {
		t.Fatal(err)
	}
	b.shares(b.path("f.img"))
	c.env = []string{"GOMEMLIMIT=32MiB"}
	get := c.get("f.img")
	most := get.mostMemory()
	get.succeeds()
	sameContent(t, c.path("f.img"), path)
	if got := most(); !raceEnabled && (got == 0 || got > 64<<20) {
		t.Errorf("it used %d MiB", got>>20)
	}
}

// What a disk refuses is said, with the code that scripts know, and leaves nothing.
func TestWhatADiskRefusesIsSaidSo(t *testing.T) {
	t.Parallel()
	link := served(t)
	a := member(t, link, nil)
	path, _ := a.file("f.img", 3<<20)
	a.shares(path)
	for name, c := range map[string]struct {
		dir, code string
		within    []string
		exit      int
	}{
		"full":      {disk(t, "size=1m"), "E-NO-SPACE", nil, 7},
		"read-only": {disk(t, "size=9m,ro"), "E-READONLY", nil, 8},
		"limited":   {t.TempDir(), "E-FILE-TOO-BIG", []string{"sh", "-c", `ulimit -f 1000; exec "$@"`, "sh"}, 7},
		"a file":    {path, "E-FILE-NOT-FOUND", nil, 3},
	} {
		t.Run(name, func(t *testing.T) {
			b := member(t, link, c.within)
			b.shoal("get", "f.img", "-o", filepath.Join(c.dir, "f.img"), "--once", "--listen", "127.0.0.1:0").fails(c.exit, c.code)
			if name != "a file" {
				holdsOnly(t, c.dir)
			}
		})
	}
}

// A folder of which the right to write is taken away while it is written to: what was fetched is kept for when it is given back.
func TestARightThatIsTakenAwayKeepsWhatWasFetched(t *testing.T) {
	t.Parallel()
	require(t, os.Geteuid() == 0, "root, to become somebody else")
	path := file(t, chunk+1)
	name := filepath.Base(path)
	s := newSwarm(t)
	_, px := s.shareThrough(path)
	dir, err := os.MkdirTemp(suite, "taken-away-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	state := nobodysState(t)
	get := func() *process {
		return command{args: s.getArgs(name, dir), user: 65534, env: []string{"SHOAL_STATE=" + state}}.start(t)
	}
	px.Allow(chunk / 2)
	first := get()
	px.awaitHold(t)
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	px.Allow(-1)
	first.fails(8, "E-PERM")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if done := get().succeeds(); done.Resumed != done.Size || done.Fetched != 0 {
		t.Errorf("told of %+v, want nothing fetched again", done)
	}
	sameContent(t, filepath.Join(dir, name), path)
	holdsOnly(t, dir, name)
}

// A shared file whose disk is taken out of the tree while it is exchanged is read on through what was opened: for as long as the disk is there, so is the file.
func TestAFileWhoseDiskIsUnmountedIsGivenOn(t *testing.T) {
	t.Parallel()
	requireSpaces(t, syscall.CLONE_NEWNS, "sh", "mount", "umount", "nsenter")
	at := t.TempDir()
	keeper := command{
		path: "sh", args: []string{"-c", `mount --make-rprivate / && mount -t tmpfs tmpfs "$1" && echo '{"t":"ready"}' && read -r _`, "sh", at},
		stdin: true, spaces: syscall.CLONE_NEWNS,
	}.start(t)
	keeper.await("ready", is("ready"))
	within := []string{"nsenter", "--target", strconv.Itoa(keeper.cmd.Process.Pid), "--mount"}
	link := served(t)
	a, b := member(t, link, within), member(t, link, nil)
	copied := filepath.Join(at, "f.img")
	write(t, fmt.Sprintf("/proc/%d/root%s", keeper.cmd.Process.Pid, copied), 3<<20, 1)
	want := filepath.Join(t.TempDir(), "f.img")
	write(t, want, 3<<20, 1)
	a.shares(copied)
	got := b.get("f.img", "--limit-down", "1MiB/s")
	got.await("the first bytes", func(e event) bool { return e.T == "progress" && e.Fetched > 0 })
	command{path: "umount", args: []string{"-l", at}, within: within}.start(t).succeedsQuietly()
	got.succeeds()
	sameContent(t, b.path("f.img"), want)
}

// Sizes at which something could be one off, random bytes and zeros.
func TestFilesOfEverySizeArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	link := served(t)
	a, b := member(t, link, nil), member(t, link, nil)
	var paths []string
	want := make(map[string][]byte)
	for _, size := range []int{0, 1, 1 << 10, 1<<16 - 1, 1 << 16, 1<<16 + 1, 1 << 20, 32e6 - 1, 32e6, 32e6 + 1} {
		for _, zero := range []bool{false, true} {
			if size == 0 && zero {
				continue // the same content
			}
			name := fmt.Sprintf("%d-%v", size, zero)
			path, body := a.file(name, size)
			if zero {
				clear(body)
				if err := os.WriteFile(path, body, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			paths, want[name] = append(paths, path), body
		}
	}
	sharing := a.shoal(append([]string{"share", "--listen", "127.0.0.1:0"}, paths...)...)
	sharing.await("the last", func(e event) bool { return e.T == "sharing" && e.Name == filepath.Base(paths[len(paths)-1]) })
	for name, body := range want {
		done := b.get(name).succeeds()
		got, err := os.ReadFile(b.path(name))
		if err != nil || !bytes.Equal(got, body) || done.Fetched != int64(len(body)) {
			t.Errorf("%s: %d bytes, %d fetched, %v", name, len(got), done.Fetched, err)
		}
	}
}

// Names at the edge of what a file system, a shell or a terminal takes.
func TestNamesAtTheEdgeArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	link := served(t)
	a, b := member(t, link, nil), member(t, link, nil)
	long := strings.Repeat("n", 255)
	names := []string{long, long[:254], strings.Repeat("ü", 127), "-rf", "--help", " begins and ends with a blank ", "a  b", "e\u0301", "\u00e9", "100%d$(x)`;|&", "..."}
	for _, name := range names {
		path, _ := a.file(name, 1000)
		p := a.shares(path)
		p.await("sharing", is("sharing"))
		args := []string{"get", "-o", b.dir, "--once", "--listen", "127.0.0.1:0", "--state", b.state, "--json", "--", name}
		if strings.HasPrefix(name, ".") {
			args[2] = b.path(name)
		}
		command{args: args}.start(t).succeeds()
		sameContent(t, b.path(name), path)
		p.signal(syscall.SIGTERM)
		p.exit()
	}
	for _, name := range []string{"not\xffutf-8", "line\nbreak", "bell\a"} {
		path, _ := a.file(name, 10)
		command{args: []string{"share", "--json", "--state", a.state, "--listen", "127.0.0.1:0", "--", path}}.start(t).fails(2, "E-USAGE")
	}
}

// SIGTERM ends each command that waits or works, with the status that says so; what it was about is kept. A second one ends it at once, also
// when it still has something to do.
func TestSIGTERMEndsWhateverRuns(t *testing.T) {
	t.Parallel()
	link := served(t)
	a, b := member(t, link, nil), member(t, link, nil)
	path, _ := a.file("f.img", 24<<20)
	other, _ := a.file("other.img", 1000)
	source := a.shares(path, "--limit-up", "1MiB/s")
	get := b.get("f.img")
	get.onItsWay()
	for what, p := range map[string]*process{
		"get, fetching":  get,
		"share, waiting": member(t, link, nil).shares(other),
		"server":         newHost(t, nil).shoal("server", "--listen", ownAddress()+":0"),
		"top":            member(t, link, nil).shoal("top"),
		"peer":           member(t, link, nil).shoal("peer", "--web", "", "--server-listen", "", "--listen", "127.0.0.1:0"),
	} {
		if p != get {
			p.says()
		}
		p.signal(syscall.SIGTERM)
		want := 0 // it was to run until it is told to stop
		if what == "get, fetching" || what == "top" {
			want = 143
		}
		if code := p.exit(); code != want {
			t.Errorf("%s ended with %d, want %d", what, code, want)
		}
	}
	holds, err := filepath.Glob(b.path(".shoal-*/data"))
	if err != nil || len(holds) != 1 {
		t.Errorf("what was fetched is not kept: %v %v", holds, err)
	}
	if again := b.get("f.img"); again.await("start", is("start")).Resumed == 0 {
		t.Error("nothing of it is found again")
	} else {
		// It still gives and fetches: the first asks it to end, the second does not ask.
		again.signal(syscall.SIGTERM)
		again.signal(syscall.SIGTERM)
		if code := again.exit(); code != 143 {
			t.Errorf("a second one ended it with %d", code)
		}
	}
	if _, err := os.Stat(b.path("f.img")); err == nil {
		t.Error("the file has its name before it is complete")
	}
	source.signal(syscall.SIGTERM)
	source.exit()
}

// says waits until a process has printed something.
func (p *process) says() {
	p.t.Helper()
	eventually(p.t, p.what+" says something", func() bool {
		out, errs := p.printed()
		return out+errs != ""
	})
}
