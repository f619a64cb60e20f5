//go:build linux

package e2e_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A situation is one that people meet. Of each there are three screens in testdata/screens, as it is seen on a terminal of 80 columns, on one of
// 40, and in a pipe or a log: NAME-80, NAME-40, NAME-piped.
type situation struct {
	what   string // in words
	screen string // NAME
	by     string // the test that shows it
	but    string // the forms that it has none of, and why
}

// situations are all of them. TestEverySituationIsShown holds the list against the screens, and noScreenIsForgotten the screens against the tests.
var situations = []situation{
	{"a file is hashed", "", "cmd/shoal.TestScreensOfAGauge", "it is over too soon to be read from a process: what is drawn is compared; a log has no line of it"},
	{"a file is shared", "share", "TestScreensOfShare", ""},
	{"a download is under way", "get-fetching", "TestScreensOfGet", ""},
	{"its neighbours are listed", "get-neighbours", "TestScreensOfGet", "piped: a table that changes is no log; --json has the figures"},
	{"it is stopped", "get-stopped", "TestScreensOfGet", ""},
	{"it goes on where it stopped, and ends", "get-end", "TestScreensOfGet", ""},
	{"it is there already", "get-again", "TestScreensOfGet", ""},
	{"only its path is wanted", "get-quiet", "TestScreensOfGet", ""},
	{"it goes into a pipe", "", "cmd/shoal.TestScripts/pipe", "80, 40: bytes are never written to a terminal"},
	{"a program reads how it goes", "", "cmd/shoal.TestScripts/json", "80, 40: objects are the same everywhere; the schema is held by fitsSchema"},
	{"nobody shares it yet", "get-looking", "TestGetWaitsAndSaysSo", "piped: nothing is said until there is something to say"},
	{"nobody gives any more", "get-waiting", "TestGetWaitsAndSaysSo", ""},
	{"the swarm is watched", "top", "TestScreensOfTop", ""},
	{"one of its files is looked at", "top-file", "TestScreensOfTop", "piped: there are no keys"},
	{"the server cannot be reached", "no-server", "TestMishaps", ""},
	{"nobody shares that name", "no-name", "TestMishaps", ""},
	{"one name means two files", "two-contents", "TestMishaps", ""},
	{"the disk is too small", "no-space", "TestMishaps", ""},
	{"the disk fills up on the way", "disk-full", "TestADiskThatFillsUpPausesADownload", ""},
	{"a source sends wrong data, another the right", "liar", "TestABadDiskBesideAGoodOne", ""},
	{"the only source sends wrong data", "corrupt", "TestMishaps", ""},
	{"the folder may not be written", "no-permission", "TestMishaps", ""},
	{"there is another file", "exists", "TestMishaps", ""},
	{"the server speaks the classic protocol alone", "downgrade", "TestMishaps", ""},
	{"a file came over the classic protocol", "classic", "TestMishaps", ""},
	{"nobody can connect to this machine", "firewall", "TestAMachineBehindAFirewallIsToldSo", ""},
}

var forms = []string{"80", "40", "piped"}

// compared are the screens that a test has looked at.
var compared sync.Map

// noScreenIsForgotten says, after all tests, whether there is a screen that none has compared.
func noScreenIsForgotten() (code int) {
	paths, _ := filepath.Glob(filepath.Join("testdata", "screens", "*.txt"))
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".txt")
		if _, was := compared.Load(name); !was && os.Getenv("CI") == "true" { // elsewhere a test may have been left out
			fmt.Fprintf(os.Stderr, "no test compares %s\n", path)
			code = 1
		}
	}
	return code
}

func TestEverySituationIsShown(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(filepath.Join("testdata", "screens", "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	unclaimed := make(map[string]bool)
	for _, path := range paths {
		unclaimed[strings.TrimSuffix(filepath.Base(path), ".txt")] = true
	}
	for _, s := range situations {
		for _, form := range forms {
			name := s.screen + "-" + form
			if delete(unclaimed, name); s.screen == "" || strings.Contains(strings.SplitN(s.but, ":", 2)[0], form) {
				continue
			}
			if _, err := os.Stat(filepath.Join("testdata", "screens", name+".txt")); err != nil {
				t.Errorf("%s: %v", s.what, err)
			}
		}
		if !testExists(t, s.by) {
			t.Errorf("%s: there is no %s", s.what, s.by)
		}
		if s.screen == "" && s.but == "" {
			t.Errorf("%s: neither screens nor a reason", s.what)
		}
	}
	for name := range unclaimed {
		t.Errorf("the screen %s shows nothing that is listed", name)
	}
}

// testExists says whether a test is there: NAME of this package, DIR.NAME of another, DIR.TestScripts/NAME a script.
func testExists(t *testing.T, name string) bool {
	t.Helper()
	dir := "."
	if d, rest, other := strings.Cut(name, "."); other {
		dir, name = filepath.Join("..", d), rest
	}
	if _, script, is := strings.Cut(name, "TestScripts/"); is {
		_, err := os.Stat(filepath.Join(dir, "testdata", script+".txt"))
		return err == nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), "func "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}

// mishap is a way in which things go wrong, and what the program says to type then, which is typed.
type mishap struct {
	exit int
	set  func(u *user) []string // makes it so, once for each form, and returns what is typed
	next []typed                // the commands of its next line, in their order
}

// typed is a command that somebody copies from the screen.
type typed struct {
	with   string             // SED/BY: words that stand for something
	state  func(*user) string // of whom; nil: the one whom it went wrong for
	exit   int
	says   string        // what it prints
	during func(u *user) // while it runs
	env    func(*user) string
	stop   bool // it goes on until it is stopped, once it has said that
	then   func(u *user)
}

// user is one in a swarm, for whom something goes wrong.
type user struct {
	*scene
	t      *testing.T
	form   string
	me     string // state folder
	dir    string // in which commands are typed
	uid    uint32
	within []string
	env    []string
	files  map[string]string // what the situation needs to know later
}

func (u *user) command(args ...string) command {
	return command{args: args, dir: u.dir, user: u.uid, within: u.within, env: append([]string{"SHOAL_STATE=" + u.me, "SHOAL_LISTEN=127.0.0.1:0"}, u.env...)}
}

// member joins the swarm, once.
func (u *user) member() {
	u.t.Helper()
	if u.me == "" {
		u.me = u.joined()
	}
}

// runs shows what a command says, in the form of the user's, and returns all of it.
func (u *user) runs(name string, exit int, args ...string) (said string) {
	u.t.Helper()
	if u.form == "piped" {
		p := u.command(args...).start(u.t)
		if code := p.exit(); code != exit {
			u.t.Errorf("%v ended with %d, want %d", args, code, exit)
		}
		out, errs := p.printed()
		goldenScreen(u.t, name+"-piped", 0, strings.TrimRight(withoutEnd(withoutProgress(errs))+out, "\n"))
		return errs
	}
	columns := map[string]int{"80": 80, "40": 40}[u.form]
	p := u.command(args...).startTerminal(u.t, columns, 24)
	if code := p.exit(); code != exit {
		u.t.Errorf("%v ended with %d, want %d", args, code, exit)
	}
	goldenScreen(u.t, name+"-"+u.form, columns, withoutEnd(p.screen()))
	return p.raw()
}

// withoutEnd leaves out what a download says at its end: that has a screen of its own.
func withoutEnd(screen string) string {
	screen, _, _ = strings.Cut(screen, "✓")
	screen, _, _ = strings.Cut(screen, "ok \"")
	// What is warned of may come before the first look at how it goes.
	screen = regexp.MustCompile(`(?s)^(warning: .*?minutes\n)(Getting .*?verified\)\n)`).ReplaceAllString(screen, "$2$1")
	return strings.TrimRight(screen, "\n") + "\n"
}

var (
	nextLine    = regexp.MustCompile(`(?m)^ +next: +(.*)$`)
	nextCommand = regexp.MustCompile(`(?:^|  |; |: )((?:shoal|sha256sum) (?:'[^']*'|[^;'])*?)(?:  |;|$)`)
)

// nextCommands are those of a next line.
func nextCommands(said string) (out []string) {
	m := nextLine.FindStringSubmatch(said)
	if m == nil {
		return nil
	}
	for text := m[1]; ; {
		at := nextCommand.FindStringSubmatchIndex(text)
		if at == nil {
			return out
		}
		out = append(out, text[at[2]:at[3]])
		text = text[at[3]:]
	}
}

// follow types what a screen says to type next.
func (u *user) follow(said string, next []typed) {
	u.t.Helper()
	found := nextCommands(said)
	if len(found) != len(next) {
		u.t.Fatalf("%d commands to type next, want %d: %s", len(found), len(next), said)
	}
	for i, n := range next {
		line := found[i]
		if n.with != "" {
			from, to, _ := strings.Cut(n.with, "=")
			if to = u.files[to]; !strings.Contains(line, from) || to == "" {
				u.t.Fatalf("%q: no %s in it", line, n.with)
			}
			line = strings.ReplaceAll(line, from, to)
		}
		c := u.command("-c", line)
		c.path = "sh"
		if n.state != nil {
			c.env[0] = "SHOAL_STATE=" + n.state(u)
			c.user = 0
		}
		c.env = append(c.env, "PATH="+suite+":"+os.Getenv("PATH"))
		if n.env != nil {
			c.env = append(c.env, n.env(u))
		}
		if n.stop {
			c.args[1] = "exec " + line
		}
		p := c.start(u.t)
		if n.during != nil {
			n.during(u)
		}
		if n.stop {
			eventually(u.t, line+" says "+n.says, func() bool { out, errs := p.printed(); return strings.Contains(out+errs, n.says) })
		} else if code := p.exit(); code != n.exit {
			u.t.Errorf("%s: ended with %d, want %d", line, code, n.exit)
		}
		if out, errs := p.printed(); !strings.Contains(out+errs, n.says) {
			u.t.Errorf("%s: it says %s%s", line, out, errs)
		}
		if n.then != nil {
			n.then(u)
		}
		if n.stop {
			p.kill()
		}
	}
}

// gets says that a file is here, as it is there.
func gets(name string) func(*user) {
	return func(u *user) { u.t.Helper(); sameContent(u.t, filepath.Join(u.dir, name), u.path) }
}

func ofServer(u *user) string { return u.state }

// mishaps are those that a whole command is about.
var mishaps = map[string]mishap{
	"no-server": {
		exit: 5,
		set: func(u *user) []string {
			u.member()
			u.server.kill()
			return []string{"get", "big.img"}
		},
		next: []typed{
			{exit: 5, says: "problem  server   cannot reach the swarm server"},
			{state: ofServer, env: func(u *user) string { return "SHOAL_LISTEN=" + u.addr }, stop: true, says: "Swarm server on", then: func(u *user) {
				p := u.command("get", "big.img").start(u.t)
				if code := p.exit(); code != 0 {
					u.t.Errorf("with a server it ends with %d", code)
				}
			}},
		},
	},
	"no-name": {
		exit: 3,
		set:  func(u *user) []string { u.member(); return []string{"get", "bgi.img"} },
		next: []typed{
			{then: gets("big.img")},
			{
				during: func(u *user) {
					command{args: []string{"share", "--listen", "127.0.0.1:0", "--state", u.state, "--name", "bgi.img", u.path}}.start(u.t)
				},
				then: gets("bgi.img"),
			},
		},
	},
	"two-contents": {
		exit: 4,
		set: func(u *user) []string {
			u.member()
			if u.files["other"] == "" {
				other := filepath.Join(u.t.TempDir(), "other.img")
				write(u.scene.t, other, 300_000, 9)
				p := command{args: []string{"share", "--json", "--listen", "127.0.0.1:0", "--state", u.joined(), "--name", "big.img", other}}.start(u.scene.t)
				p.await("sharing", is("sharing"))
				u.files["other"] = other
			}
			eventually(u.t, "both are offered", func() bool {
				p := u.command("ls").start(u.t)
				p.exit()
				out, _ := p.printed()
				return strings.Count(out, "big.img") == 2
			})
			return []string{"get", "big.img"}
		},
		next: []typed{{says: "big.img"}},
	},
	"no-space": {
		exit: 7,
		set: func(u *user) []string {
			u.member()
			if u.files["PATH"] == "" {
				u.files["PATH"] = u.t.TempDir() + "/elsewhere.img"
				u.dir = disk(u.scene.t, "size=1m")
			}
			return []string{"get", "big.img"}
		},
		next: []typed{{with: "PATH=PATH", then: func(u *user) { sameContent(u.t, u.files["PATH"], u.path) }}},
	},
	"corrupt": {
		exit: 6,
		set: func(u *user) []string {
			u.member()
			if u.files["FILE"] == "" {
				u.files["FILE"], u.files["state"] = u.rottenShare("rotten.img")
			}
			return []string{"get", "rotten.img"}
		},
		next: []typed{{state: func(u *user) string { return u.files["state"] }, with: "FILE=FILE", exit: 6, says: "E-VERIFY"}},
	},
	"no-permission": {
		exit: 8,
		set: func(u *user) []string {
			requireSpaces(u.t, 0)
			if u.uid = 65534; u.me == "" {
				var err error
				if u.me, err = os.MkdirTemp(suite, "state-"); err != nil {
					u.t.Fatal(err)
				}
				command{args: []string{"join", "--state", u.me, u.newLink()}}.start(u.t).succeedsQuietly()
			}
			if out, err := exec.Command("chown", "-R", "65534:65534", u.me).CombinedOutput(); err != nil {
				u.t.Fatalf("%v: %s", err, out)
			}
			if u.files["PATH"] == "" {
				open, err := os.MkdirTemp(suite, "open-")
				if err != nil {
					u.t.Fatal(err)
				}
				_ = os.Chmod(open, 0o777)
				u.files["PATH"] = open + "/elsewhere.img"
				if u.dir, err = os.MkdirTemp(suite, "shut-"); err != nil {
					u.t.Fatal(err)
				}
				_ = os.Chmod(u.dir, 0o555)
			}
			return []string{"get", "big.img"}
		},
		next: []typed{{with: "PATH=PATH", then: func(u *user) { sameContent(u.t, u.files["PATH"], u.path) }}},
	},
	"exists": {
		exit: 11,
		set: func(u *user) []string {
			u.member()
			u.files["PATH"] = u.t.TempDir() + "/elsewhere.img"
			write(u.t, filepath.Join(u.dir, "big.img"), 1000, 3)
			return []string{"get", "big.img"}
		},
		next: []typed{{then: gets("big.img")}, {with: "PATH=PATH", then: func(u *user) { sameContent(u.t, u.files["PATH"], u.path) }}},
	},
	"downgrade": {
		exit: 9,
		set: func(u *user) []string {
			u.member()
			if u.files["old"] == "" {
				u.files["old"] = newSwarmOf(u.scene.t).addr
			}
			return []string{"get", "big.img", "--server", u.files["old"]}
		},
		next: []typed{{}},
	},
	"classic": {
		exit: 0,
		set: func(u *user) []string {
			if u.me = newState(); u.files["old"] == "" {
				s := newSwarm(u.scene.t)
				s.share(u.path)
				u.files["old"] = s.addr
			}
			_ = os.Remove(filepath.Join(u.dir, "big.img"))
			return []string{"get", "--classic", "big.img", "--server", u.files["old"]}
		},
		next: []typed{{says: "  big.img"}},
	},
}

// newSwarmOf is a classic swarm: a raw server that speaks nothing else.
func newSwarmOf(t *testing.T) *swarm {
	t.Helper()
	return &swarm{t: t, addr: rawServer(t)}
}

// rottenShare shares a file whose disk goes bad afterwards: its bytes change, and nothing else that can be seen of it.
func (s *scene) rottenShare(name string) (path, state string) {
	s.t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "shoal-e2e-") // there, what a mapping writes changes no time
	require(s.t, err == nil, fmt.Sprint("a folder in memory: ", err))
	s.t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, name)
	write(s.t, path, 640<<10, 7)
	state = s.joined()
	p := command{args: []string{"share", "--json", "--listen", "127.0.0.1:0", "--state", state, path}}.start(s.t)
	p.await("sharing", is("sharing"))
	rot(s.t, path)
	return path, state
}

// rot flips bits all over a file.
func rot(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(before.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	for i := 5; i < len(b); i += 30_000 {
		b[i] ^= 1
	}
	if err := unix.Munmap(b); err != nil {
		t.Fatal(err)
	}
	after, err := f.Stat()
	if err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Fatalf("it shows (%v): this tests nothing", err)
	}
}

// What goes wrong is said as it is kept in the screens, and what is said to be typed next, is typed.
func TestMishaps(t *testing.T) {
	t.Parallel()
	for name, m := range mishaps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := &user{scene: newScene(t, 3<<20), t: t, dir: t.TempDir(), files: make(map[string]string)}
			for _, u.form = range forms {
				said := u.runs(name, m.exit, m.set(u)...)
				if u.form == "piped" {
					u.follow(said, m.next)
					continue
				}
				for _, c := range nextCommands(said) { // that can be copied
					if strings.Contains(c, "\n") {
						t.Errorf("on %s columns %q is broken", u.form, c)
					}
				}
			}
		})
	}
}

// A disk that has gone bad is found out, its machine is named, and the file comes from elsewhere.
func TestABadDiskBesideAGoodOne(t *testing.T) {
	t.Parallel()
	s := newScene(t, 640<<10) // ten pieces: their numbers are of one digit, as screens are folded by width
	s.rottenShare("big.img")  // the same bytes, once
	for _, form := range forms {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			u := &user{scene: s, t: t, form: form, me: s.joined(), dir: t.TempDir()}
			u.runs("liar", 0, "get", "big.img", "--once", "--limit-down", "512KiB/s")
			sameContent(t, filepath.Join(u.dir, "big.img"), s.path)
		})
	}
}

// unreserve gives back what a download has reserved on a disk and not written yet: not every file system can reserve.
func unreserve(t *testing.T, dir string) {
	t.Helper()
	data, err := filepath.Glob(filepath.Join(dir, ".shoal-*", "data"))
	if err != nil || len(data) != 1 {
		t.Fatal(err, data)
	}
	f, err := os.OpenFile(data[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(0); at < fi.Size(); {
		hole, err := f.Seek(at, unix.SEEK_HOLE)
		if err != nil {
			t.Fatal(err)
		}
		if at, err = f.Seek(hole, unix.SEEK_DATA); err != nil { // there is none
			at = fi.Size()
		}
		if hole < at {
			if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, hole, at-hole); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A disk that fills up pauses a download, which says so, and goes on by itself when there is space.
func TestADiskThatFillsUpPausesADownload(t *testing.T) {
	t.Parallel()
	for _, form := range forms {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, 24<<20)
			u := &user{scene: s, t: t, form: form, me: s.joined(), dir: disk(t, "size=32m")}
			get := u.command("get", "big.img", "--once", "--limit-down", "3MiB/s")
			fill := func(p *os.Process) string {
				t.Helper()
				_ = p.Signal(syscall.SIGSTOP)
				defer p.Signal(syscall.SIGCONT)
				unreserve(t, u.dir)
				filler, err := os.Create(filepath.Join(u.dir, "filler"))
				if err != nil {
					t.Fatal(err)
				}
				defer filler.Close()
				if _, err := io.Copy(filler, zeros{}); err == nil {
					t.Fatal("an endless file was written")
				}
				return filler.Name()
			}
			if form == "piped" {
				p := get.start(t)
				eventually(t, "some of it", func() bool { _, errs := p.printed(); return strings.Contains(errs, " get ") })
				filler := fill(p.cmd.Process)
				eventually(t, "that it is paused", func() bool { _, errs := p.printed(); return strings.Contains(errs, "paused") })
				_ = os.Remove(filler)
				if code := p.exit(); code != 0 {
					t.Errorf("it ended with %d", code)
				}
				_, errs := p.printed()
				goldenScreen(t, "disk-full-piped", 0, regexp.MustCompile(`(?m)^.*paused.*$`).FindString(errs))
			} else {
				columns := map[string]int{"80": 80, "40": 40}[form]
				p := get.startTerminal(t, columns, 24)
				p.awaitScreen(`^ *\d+%.*eta \d+:\d\d`)
				filler := fill(p.cmd.Process)
				screen := p.awaitScreen(`paused`)
				goldenScreen(t, "disk-full-"+form, columns, screen)
				_ = os.Remove(filler)
				if code := p.exit(); code != 0 {
					t.Errorf("it ended with %d", code)
				}
			}
			sameContent(t, filepath.Join(u.dir, "big.img"), s.path)
		})
	}
}

// One that is behind a firewall is told so, and can look closer.
func TestAMachineBehindAFirewallIsToldSo(t *testing.T) {
	t.Parallel()
	requireSpaces(t, syscall.CLONE_NEWNET, "ip", "nsenter", "sh")
	machines := network(t, 1+len(forms))
	server := newHost(t, machines[0].within())
	link := server.shoal("server", "--listen", "10.0.0.1:50001").await("link", is("listening")).Link
	for i, form := range forms {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, machines[i+1].within())
			h.shoal("join", link).succeedsQuietly()
			machines[i+1].run("ip", strings.Fields("rule add ipproto tcp sport 50002 blackhole")...)
			path, _ := h.file("big.img", 100_000)
			c := command{args: []string{"share", path}, within: h.within, dir: h.dir, env: []string{"SHOAL_STATE=" + h.state}}
			if form != "piped" {
				columns := map[string]int{"80": 80, "40": 40}[form]
				screen := c.startTerminal(t, columns, 24).awaitScreen(`(?s)note: .*Serving:`)
				goldenScreen(t, "firewall-"+form, columns, screen[strings.Index(screen, "note: "):])
				return
			}
			p := c.start(t)
			eventually(t, "that nobody can connect", func() bool { _, errs := p.printed(); return strings.Contains(errs, "note: ") })
			_, errs := p.printed()
			goldenScreen(t, "firewall-piped", 0, regexp.MustCompile(`(?m)^note: .*$`).FindString(errs))
			p.kill()
			u := &user{t: t, me: h.state, dir: h.dir, within: h.within, env: []string{"SHOAL_LISTEN=:50002"}}
			u.follow("  next:  "+regexp.MustCompile(`shoal doctor`).FindString(errs), []typed{{exit: 5, says: "E-FIREWALL"}})
		})
	}
}
