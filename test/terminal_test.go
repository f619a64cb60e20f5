//go:build linux

package e2e_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
)

// These tests read the screen as people do: the real program runs under a pseudo-terminal, what it writes goes through a terminal
// emulator, and what that shows is compared with screens that are kept in testdata/screens. Figures that differ from run to run are
// masked, and spaces that only align them are not compared.

var updateScreens = flag.Bool("update", false, "write the golden screens anew")

// terminal is a program that runs under a pseudo-terminal.
type terminal struct {
	t    *testing.T
	what string
	cmd  *exec.Cmd
	pty  *os.File
	done chan struct{} // closed when the program has ended, and all that it wrote was read

	mu    sync.Mutex // guards what follows
	vt    *vt.Emulator
	wrote strings.Builder
	bytes int
}

// startTerminal starts the program under a terminal of that size.
func startTerminal(t *testing.T, columns, rows int, env []string, args ...string) *terminal {
	t.Helper()
	return command{args: args, env: env}.startTerminal(t, columns, rows)
}

// startTerminal starts a process under a terminal of that size.
func (c command) startTerminal(t *testing.T, columns, rows int) *terminal {
	t.Helper()
	argv := append(append([]string{}, c.within...), append([]string{program()}, c.args...)...)
	p := &terminal{t: t, what: strings.Join(c.args, " "), vt: vt.NewEmulator(columns, rows), done: make(chan struct{})}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Dir = c.dir
	if c.user != 0 {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.user, Gid: c.user}}
	}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(v, "SHOAL_") && !strings.HasPrefix(v, "XDG_") && !strings.HasPrefix(v, "LC_") && name != "HOME" && name != "LANG" && name != "NO_COLOR" && name != "TERM" {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Env = append(append(p.cmd.Env, "HOME="+suite, "SHOAL_NO_LAN=true", "LANG=C.UTF-8", "TERM=xterm-256color"), c.env...)
	f, err := pty.StartWithSize(p.cmd, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)})
	if err != nil {
		t.Fatal(err)
	}
	p.pty = f
	go func() { // ends with the program, whose end of the terminal is then closed
		defer close(p.done)
		buf := make([]byte, 4096)
		for {
			n, err := f.Read(buf)
			p.mu.Lock()
			_, _ = p.vt.Write(buf[:n])
			p.wrote.Write(buf[:n])
			p.bytes += n
			p.mu.Unlock()
			if err != nil {
				_ = p.cmd.Wait()
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		f.Close()
		if t.Failed() {
			t.Logf("%s\nscreen:\n%s", p.what, p.screen())
		}
	})
	return p
}

// screen is what the terminal shows.
func (p *terminal) screen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lines []string
	for y := range p.vt.Height() {
		var b strings.Builder
		for x := 0; x < p.vt.Width(); {
			c := p.vt.CellAt(x, y)
			if c == nil || c.Content == "" {
				b.WriteByte(' ')
				x++
				continue
			}
			b.WriteString(c.Content)
			x += max(c.Width, 1)
		}
		lines = append(lines, strings.TrimRight(b.String(), " "))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

func (p *terminal) raw() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wrote.String()
}

// awaitScreen waits until the screen fits an expression, and returns it.
func (p *terminal) awaitScreen(expr string) (screen string) {
	p.t.Helper()
	want := regexp.MustCompile("(?m)" + expr)
	eventually(p.t, "a screen with "+expr, func() bool {
		screen = p.screen()
		return want.MatchString(screen)
	})
	return screen
}

func (p *terminal) press(keys string) {
	p.t.Helper()
	if _, err := p.pty.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

func (p *terminal) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s\nstill runs after %v", p.what, patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// resize makes the terminal wider or narrower under the program.
func (p *terminal) resize(columns, rows int) {
	p.t.Helper()
	p.mu.Lock()
	p.vt.Resize(columns, rows)
	p.mu.Unlock()
	if err := pty.Setsize(p.pty, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)}); err != nil {
		p.t.Fatal(err)
	}
}

// masks are what differs from run to run, and what stands for it.
var masks = []struct {
	what *regexp.Regexp
	mask string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
	{regexp.MustCompile(`shoal://[^\s']*(\n[a-z0-9~./]+)*`), "LINK"},
	{regexp.MustCompile(`\b[0-9a-f]{20,64}(\n[0-9a-f]+)?\b`), "ID"},
	{regexp.MustCompile(`127\.\d+\.\d+\.\d+:\d+`), "ADDR"},
	{regexp.MustCompile(`\d+(\.\d+)?(ms|s|m\d+s)\b`), "TOOK"},
	{regexp.MustCompile(`eta (\d+:\d\d|--:--)`), "eta ETA"},
	{regexp.MustCompile(`\d+:\d\d\b`), "ETA"},
	{regexp.MustCompile(`eta=TOOK`), "eta=ETA"},
	{regexp.MustCompile(`\d+(\.\d+)? ?([KM]i)?B/s`), "RATE"},
	{regexp.MustCompile(`\d+(\.\d+)?( ?[KM]iB)? ?/ ?(\d+(\.\d+)? ?[KM]iB)`), "DONE/$3"},
	{regexp.MustCompile(`\d+(\.\d+)? x optimal`), "N x optimal"},
	{regexp.MustCompile(`\d+(\.\d+)? [KM]?i?B of 24 MiB`), "DONE of 24 MiB"},
	{regexp.MustCompile(`\(piece \d+\)`), "(piece N)"},
	{regexp.MustCompile(`\d+%`), "N%"},
	{regexp.MustCompile(`at\s+N%\s+\(\d+(\.\d+)?\s+MiB\s+kept\)`), "at N% (DONE kept)"},
	{regexp.MustCompile(`\b\d+ (s|min)\b`), "AGO"},
	{regexp.MustCompile(`ETA  +\d+\b`), "ETA"},
	{regexp.MustCompile(`(?m)(  |by )[a-z2-7]{10}( |$)`), "${1}PEER$2"},
	{regexp.MustCompile(`\b[0-9a-f]{16}\b`), "ID16"},
	{regexp.MustCompile(`swarm [a-z2-7]{8}\b`), "swarm SWARM"},
	{regexp.MustCompile(`[█▓▒░·]{6,}|[#*+.-]{6,}`), "STRIP"},
	{regexp.MustCompile(`  +`), "  "},
	{regexp.MustCompile(`(?m)^  \S.*?  (PEER  |ADDR$)`), "  HOST  $1"}, // a long name is cut
	{regexp.MustCompile(`PEER  (server|member)  `), "PEER  ROLE  "},    // they are in the order of their ids
}

func masked(screen string) string {
	if host, err := os.Hostname(); err == nil {
		screen = regexp.MustCompile(`\b`+regexp.QuoteMeta(host)+`\b`).ReplaceAllString(screen, "HOST")
	}
	screen = regexp.MustCompile(`\S*/shoal-e2e-[\d\n]+/[out\d\n]+/[big.m\n]+`).ReplaceAllString(screen, "PATH\n") // a narrow terminal folds it
	screen = strings.TrimRight(screen, "\n")
	for _, m := range masks {
		screen = m.what.ReplaceAllString(screen, m.mask)
	}
	return screen
}

// unfolded joins rows that the terminal itself has folded, since they were too long: it copies them as one.
func unfolded(screen string, columns int) string {
	var b strings.Builder
	for l := range strings.Lines(screen) {
		if columns > 0 && len([]rune(strings.TrimSuffix(l, "\n"))) == columns {
			l = strings.TrimSuffix(l, "\n")
		}
		b.WriteString(l)
	}
	return b.String()
}

// goldenScreen compares a screen with the one that is kept under a name, and that it fits its terminal.
func goldenScreen(t *testing.T, name string, columns int, screen string) {
	t.Helper()
	path := filepath.Join("testdata", "screens", name+".txt")
	compared.Store(name, true)
	got := masked(unfolded(screen, columns)) + "\n"
	if *updateScreens {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("the screen %s is another (-was +is):\n%s\nscreen:\n%s", name, diff, screen)
	}
	for _, l := range strings.Split(screen, "\n") {
		if n := len([]rune(l)); columns > 0 && n > columns {
			t.Errorf("%s: a row of %d cells on %d columns: %q", name, n, columns, l)
		}
	}
}

// scene is a swarm with one who shares big.img.
type scene struct {
	t      *testing.T
	server *process
	share  *process
	addr   string
	link   string
	path   string
	state  string // of the sharer
}

func newScene(t *testing.T, bytes int64) *scene {
	t.Helper()
	s := &scene{t: t, state: newState(), path: filepath.Join(t.TempDir(), "big.img")}
	write(t, s.path, bytes, 7)
	s.server = command{args: []string{"server", "--json", "--listen", ownAddress() + ":0", "--state", s.state}}.start(t)
	s.addr = s.server.await("listening", is("listening")).Addr
	s.share = command{args: []string{"share", "--json", "--listen", "127.0.0.1:0", "--state", s.state, s.path}}.start(t)
	s.link = s.share.await("its link", is("link")).Link
	return s
}

// joined is the state folder of one more member.
func (s *scene) joined() string {
	s.t.Helper()
	state := newState()
	p := command{args: []string{"join", "--json", "--state", state, s.newLink()}}.start(s.t)
	if code := p.exit(); code != 0 {
		s.t.Fatalf("join ended with %d", code)
	}
	return state
}

func (s *scene) newLink() string {
	s.t.Helper()
	p := command{args: []string{"link", "-q", "--state", s.state}}.start(s.t)
	p.exit()
	out, _ := p.printed()
	return strings.TrimSpace(out)
}

func (s *scene) getArgs(state, dir string, more ...string) []string {
	return append([]string{"get", "--state", state, "big.img", "-o", dir, "--listen", "127.0.0.1:0"}, more...)
}

func TestScreensOfGet(t *testing.T) {
	t.Parallel()
	for _, columns := range []int{80, 40} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, 24<<20)
			state := s.joined()
			dir, err := os.MkdirTemp(suite, "out")
			if err != nil {
				t.Fatal(err)
			}
			form := fmt.Sprintf("-%d", columns)

			// It is under way, and is stopped.
			p := startTerminal(t, columns, 24, nil, s.getArgs(state, dir, "--limit-down", "1MiB/s")...)
			screen := p.awaitScreen(`^ *\d+%.*eta \d+:\d\d`)
			goldenScreen(t, "get-fetching"+form, columns, screen)
			if !strings.Contains(p.raw(), "\x1b[") || strings.Contains(p.raw(), "\x1b[?1049h") {
				t.Error("it is not drawn in place, or takes the whole screen")
			}
			p.press("\x03")
			if code := p.exit(); code != 130 {
				t.Errorf("Ctrl-C: exit status %d", code)
			}
			goldenScreen(t, "get-stopped"+form, 0, asText(p.screen()))

			// It goes on where it stopped; with -v the neighbours are seen; it ends.
			p = startTerminal(t, columns, 24, nil, s.getArgs(state, dir, "--limit-down", "1MiB/s", "-v")...)
			screen = p.awaitScreen(`(?s)^ *\d+%.*eta \d+:\d\d.*^  peer  .*^  127\.`)
			if i := strings.Index(screen, "Resuming"); i < 0 {
				t.Errorf("it does not say that it goes on:\n%s", screen)
			} else {
				goldenScreen(t, "get-neighbours"+form, columns, withoutDebug(screen[i:]))
			}
			p.press("\x03")
			p.exit()
			p = startTerminal(t, columns, 24, nil, s.getArgs(state, dir, "--once")...)
			if code := p.exit(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			goldenScreen(t, "get-end"+form, columns, p.screen())
			sameContent(t, filepath.Join(dir, "big.img"), s.path)

			// Once more.
			p = startTerminal(t, columns, 24, nil, s.getArgs(state, dir)...)
			if code := p.exit(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			goldenScreen(t, "get-again"+form, columns, p.screen())

			p = startTerminal(t, columns, 24, nil, s.getArgs(state, dir, "-q")...)
			if code := p.exit(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			goldenScreen(t, "get-quiet"+form, columns, p.screen())
		})
	}
	t.Run("piped", getPiped)
}

// asText is a screen whose rows differ from run to run, as figures are longer or shorter.
func asText(screen string) string { return strings.Join(strings.Fields(screen), " ") }

// getPiped is a download whose screen is a pipe: it is stopped, goes on, is there, and only its path is wanted.
func getPiped(t *testing.T) {
	t.Parallel()
	s := newScene(t, 24<<20)
	state := s.joined()
	dir, err := os.MkdirTemp(suite, "out")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		screen string
		exit   int
		args   []string
	}{{"get-stopped", 130, []string{"--limit-down", "2MiB/s"}}, {"get-end", 0, []string{"--once"}}, {"get-again", 0, nil}, {"get-quiet", 0, []string{"-q"}}} {
		p := command{args: s.getArgs(state, dir, step.args...)}.start(t)
		if step.exit != 0 {
			eventually(t, "it is under way", func() bool { _, errs := p.printed(); return strings.Contains(errs, " get ") })
			p.signal(os.Interrupt)
		}
		if code := p.exit(); code != step.exit {
			t.Errorf("%s: exit status %d", step.screen, code)
		}
		out, errs := p.printed()
		goldenScreen(t, step.screen+"-piped", 0, strings.TrimRight(withoutProgress(errs)+out, "\n"))
	}
}

// withoutProgress leaves out of a log the lines that say how far it is: how many there are depends on the machine.
func withoutProgress(log string) string {
	return regexp.MustCompile(`(?m)^\d{4}-\S+ get .*\n`).ReplaceAllString(log, "")
}

// withoutDebug leaves out the lines of the log that -v adds between what is said first and the panel.
func withoutDebug(screen string) string {
	end := strings.Index(screen, "kept)") + len("kept)")
	if at := regexp.MustCompile(`(?m)^[█▓▒░·]{6,}$`).FindStringIndex(screen); at != nil {
		return screen[:end] + "\n" + screen[at[0]:]
	}
	return screen
}

func TestGetWaitsAndSaysSo(t *testing.T) {
	t.Parallel()
	for _, columns := range []int{80, 40} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, 24<<20)
			state := s.joined()
			p := startTerminal(t, columns, 24, nil, s.getArgs(state, t.TempDir(), "--limit-down", "2MiB/s")...)
			p.awaitScreen(`^ *\d+%.*eta \d+:\d\d`)
			s.share.kill()
			goldenScreen(t, fmt.Sprintf("get-waiting-%d", columns), columns, p.awaitScreen(`waiting for sources \(\d+ s\)`))
			p.resize(40, 24)
			p.awaitScreen(`^ *\d+% .{0,25}\n      waiting for sources`)
			if n := strings.Count(p.screen(), "waiting"); n != 1 {
				t.Errorf("a narrower terminal shows it %d times", n)
			}
			p = startTerminal(t, columns, 24, nil, "get", "--state", state, "later.img", "--wait", "-o", t.TempDir(), "--listen", "127.0.0.1:0")
			goldenScreen(t, fmt.Sprintf("get-looking-%d", columns), columns, p.awaitScreen(`^Looking for .*\(\d+ s\)`))
		})
	}
	t.Run("piped", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, 24<<20)
		p := command{args: s.getArgs(s.joined(), t.TempDir(), "--limit-down", "2MiB/s")}.start(t)
		says := func(text string) {
			t.Helper()
			eventually(t, "it says "+text, func() bool { _, errs := p.printed(); return strings.Contains(errs, text) })
		}
		says(" get ")
		s.share.kill()
		says("waiting for sources")
		_, errs := p.printed()
		goldenScreen(t, "get-waiting-piped", 0, regexp.MustCompile(`(?m)^.* waiting for sources .*$`).FindString(errs))
	})
}

func TestGetWithoutColourOrUnicodeOrATerminal(t *testing.T) {
	t.Parallel()
	s := newScene(t, 24<<20)
	colour := regexp.MustCompile(`\x1b\[[0-9;]*m`)
	for name, c := range map[string]struct {
		env             []string
		colour, unicode bool
	}{
		"plain":    {nil, true, true},
		"NO_COLOR": {[]string{"NO_COLOR=1"}, false, true},
		"LANG=C":   {[]string{"LANG=C", "LC_ALL="}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startTerminal(t, 80, 24, c.env, s.getArgs(s.joined(), t.TempDir(), "--limit-down", "4MiB/s", "--once")...)
			p.awaitScreen(`^ *\d+% .*\d`)
			if got := strings.ContainsFunc(p.raw(), func(r rune) bool { return r > '~' }); got != c.unicode {
				t.Errorf("signs beyond ASCII: %v", got)
			}
			if got := colour.MatchString(p.raw()); got != c.colour {
				t.Errorf("colour: %v", got)
			}
		})
	}
	t.Run("TERM=dumb", func(t *testing.T) {
		t.Parallel()
		p := startTerminal(t, 80, 24, []string{"TERM=dumb"}, s.getArgs(s.joined(), t.TempDir(), "--once")...)
		if code := p.exit(); code != 0 {
			t.Errorf("exit status %d", code)
		}
		if strings.Contains(p.raw(), "\x1b") {
			t.Errorf("a dumb terminal is sent %q", p.raw())
		}
	})
	t.Run("piped", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, 24<<20) // of its own: those beside it would be sources too
		p := command{args: s.getArgs(s.joined(), t.TempDir(), "--limit-down", "4MiB/s", "--once")}.start(t)
		if code := p.exit(); code != 0 {
			t.Errorf("exit status %d", code)
		}
		out, errs := p.printed()
		if strings.Contains(out+errs, "\x1b") || strings.Contains(errs, "\r") {
			t.Errorf("what moves a cursor is in a log: %q", errs)
		}
		lines := strings.Split(errs, "\n")
		var kept []string
		tenths := 0
		for _, l := range lines {
			if strings.Contains(l, " get ") && regexp.MustCompile(`^\d{4}-`).MatchString(l) {
				if tenths++; tenths > 1 {
					continue // their number depends on the machine
				}
			}
			kept = append(kept, l)
		}
		if tenths < 3 || tenths > 10 {
			t.Errorf("%d lines of progress:\n%s", tenths, errs)
		}
		goldenScreen(t, "get-fetching-piped", 0, strings.TrimRight(strings.Join(kept, "\n"), "\n"))
	})
	t.Run("FORCE_COLOR", func(t *testing.T) {
		t.Parallel()
		p := command{args: s.getArgs(s.joined(), t.TempDir(), "--once"), env: []string{"FORCE_COLOR=1"}}.start(t)
		p.exit()
		if _, errs := p.printed(); !colour.MatchString(errs) {
			t.Errorf("no colour: %q", errs)
		}
	})
}

func TestScreensOfShare(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "big.img")
	write(t, path, 8<<20, 9)
	for _, columns := range []int{80, 40} {
		p := startTerminal(t, columns, 24, []string{"SHOAL_STATE=" + newState()}, "share", "--listen", "127.0.0.1:0", "--server-listen", ownAddress()+":0", path)
		goldenScreen(t, fmt.Sprintf("share-%d", columns), columns, p.awaitScreen(`^Serving: .* in all|^Serving: 0`))
		p.press("\x03")
		if code := p.exit(); code != 0 {
			t.Errorf("exit status %d", code)
		}
	}
	p := command{args: []string{"share", "--listen", "127.0.0.1:0", "--server-listen", ownAddress() + ":0", path}}.start(t)
	eventually(t, "it is shared", func() bool { _, errs := p.printed(); return strings.Contains(errs, "Ctrl-C stops sharing.\n") })
	out, errs := p.printed()
	goldenScreen(t, "share-piped", 0, strings.TrimRight(errs+out, "\n"))
}

func TestScreensOfTop(t *testing.T) {
	t.Parallel()
	s := newScene(t, 64<<20)
	getting := s.joined()
	fetch := command{args: s.getArgs(getting, t.TempDir(), "--limit-down", "256KiB/s")}.start(t)
	p := startTerminal(t, 80, 20, nil, "top", "--state", getting)
	p.awaitScreen(`(?s)downloading +\d+% +[0-9.]+ KiB/s .*\d:\d\d.*1 full 1 part`)
	p.press("q")
	p.exit()
	topPipedAndStopped(t, getting)
	for _, columns := range []int{80, 40} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			p := startTerminal(t, columns, 20, nil, "top", "--state", getting)
			screen := p.awaitScreen(`(?s)THIS MACHINE 1.*big.img .*B/s.*FILES 1.*big.img.*%.*PEERS 2`)
			goldenScreen(t, fmt.Sprintf("top-%d", columns), columns, screen)
			p.press("?")
			p.awaitScreen(`another order`)
			p.press("?\r")
			goldenScreen(t, fmt.Sprintf("top-file-%d", columns), columns, p.awaitScreen(`get it +shoal get big.img`))
			p.press("p")
			p.awaitScreen(`^> HOST|^> .*`)
			p.press("/nobody")
			p.awaitScreen(`PEERS 0 of 2`)
			p.resize(60, 12)
			p.awaitScreen(`^/nobody`)
			p.press("\x1b")
			p.awaitScreen(`PEERS 2`)
			if columns == 40 {
				s.server.kill() // what is known stays, and nothing is written over it
				p.resize(80, 12)
				if screen := p.awaitScreen(`no answer: trying again`); strings.Contains(screen, "warning") || !strings.Contains(screen, "PEERS 2") {
					t.Errorf("without a server:\n%s", screen)
				}
			}
			p.press("q")
			if code := p.exit(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			if raw := p.raw(); !strings.Contains(raw, "\x1b[?1049h") || !strings.HasSuffix(raw, "\x1b[?25h\x1b[?1049l") {
				t.Error("the terminal is not left as it was")
			}
		})
	}
	fetch.kill()
}

func topPipedAndStopped(t *testing.T, getting string) {
	t.Helper()
	t.Run("piped", func(t *testing.T) {
		p := command{args: []string{"top", "--state", getting}}.start(t)
		if code := p.exit(); code != 0 {
			t.Errorf("exit status %d", code)
		}
		out, errs := p.printed()
		goldenScreen(t, "top-piped", 0, strings.TrimRight(out, "\n"))
		if errs != "" {
			t.Errorf("it says %q", errs)
		}
	})
	t.Run("ended by a signal", func(t *testing.T) {
		p := startTerminal(t, 80, 20, nil, "top", "--state", getting)
		p.awaitScreen(`FILES 1`)
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := p.exit(); code != 128+15 {
			t.Errorf("exit status %d", code)
		}
		if !strings.Contains(p.raw(), "\x1b[?25h\x1b[?1049l") {
			t.Error("the terminal is not left as it was")
		}
	})
}

// What stands still costs nothing, and what moves little.
func TestDrawingIsCheap(t *testing.T) {
	t.Parallel()
	s := newScene(t, 24<<20)
	p := startTerminal(t, 80, 24, nil, "top", "--state", s.joined())
	p.awaitScreen(`FILES 1`)
	p.awaitScreen(`up [2-9] s`)
	p.mu.Lock()
	before := p.bytes
	p.mu.Unlock()
	p.awaitScreen(`up ([6-9]|1\d) s`)
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.bytes - before; n > 20_000 {
		t.Errorf("%d bytes in some four seconds of nothing", n)
	}
}
