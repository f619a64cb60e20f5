//go:build linux

package e2e_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// step is a line that the README tells people to type, and what it says the machine answers.
type step struct {
	where string // the console: A, B, C, or A2, the second one on A
	line  string // ^C: the key
	shown []string
}

// prompt is what stands before a line that is to be typed.
var prompt = regexp.MustCompile(`^([A-Z])([0-9]?)\$ (.+)$`)

// tutorial returns the steps in the README's console blocks.
func tutorial(t *testing.T) (steps []step) {
	t.Helper()
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\n")
		m := prompt.FindStringSubmatch(line)
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case inside && m != nil:
			steps = append(steps, step{where: m[1] + m[2], line: m[3]})
		case inside && len(steps) > 0:
			last := &steps[len(steps)-1]
			last.shown = append(last.shown, line)
		}
	}
	return steps
}

// pattern is what a machine must have answered: "..." is anything within a line, and alone in a line any lines.
func pattern(shown []string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("^")
	for _, line := range shown {
		if line == "..." {
			b.WriteString("(?:.*\n)*")
		} else {
			b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), `\.\.\.`, ".*") + "\n")
		}
	}
	return regexp.MustCompile(b.String() + "$")
}

// console is a window on a machine, in which one line runs at a time.
type console struct {
	t       *testing.T
	within  []string
	dir     string
	state   string
	running *process
	shown   []string
	stopped bool
}

func (w *console) typed(line string) {
	w.t.Helper()
	w.finish()
	if strings.HasPrefix(line, "shoal ") && !strings.ContainsAny(line, "|;&>") {
		line = "exec " + line // so that it gets the signal
	}
	w.running = command{
		path: "sh", args: []string{"-c", "exec 2>&1; " + line}, within: append(append([]string{}, w.within...), "env", "-C", w.dir),
		env: []string{
			"SHOAL_STATE=" + w.state, "SHOAL_NO_LAN=false", "LC_ALL=C.UTF-8",
			"PATH=" + filepath.Dir(program()) + ":" + os.Getenv("PATH"),
		},
	}.start(w.t)
	w.shown, w.stopped = nil, false
}

func (w *console) ctrlC() {
	w.t.Helper()
	if w.running == nil || !w.running.running() {
		w.t.Fatal("Ctrl-C where nothing runs")
	}
	w.running.signal(syscall.SIGINT)
	w.stopped = true
	w.running.exit()
}

// answered waits until the machine has answered what the README shows.
func (w *console) answered(shown []string) {
	w.t.Helper()
	w.shown = append(w.shown, shown...)
	want := pattern(w.shown)
	eventually(w.t, w.running.what+" answers\n"+strings.Join(w.shown, "\n"), func() bool {
		out := w.printed()
		if !w.running.running() && !want.MatchString(out) {
			if out = w.printed(); !want.MatchString(out) {
				w.t.Fatalf("%s\nanswered\n%s\nbut the README shows\n%s", w.running.what, out, strings.Join(w.shown, "\n"))
			}
		}
		return want.MatchString(out)
	})
}

// progress is a line of a download that takes more than a second, as it does on a busy machine.
var progress = regexp.MustCompile(`(?m)^\S+Z get .* sources=\d+\n`)

// printed is what the machine has answered, but for its progress.
func (w *console) printed() string {
	out, _ := w.running.printed()
	return progress.ReplaceAllString(out, "")
}

// finish waits for the line that runs to end by itself, well, having said just what the README shows.
func (w *console) finish() {
	w.t.Helper()
	if w.running == nil {
		return
	}
	code := w.running.exit()
	if code != 0 && !(w.stopped && code == exitOfInterrupt) {
		w.t.Errorf("%s\nended with %d", w.running.what, code)
	}
	w.answered(nil)
	w.running = nil
}

const exitOfInterrupt = 130

// link is what a reader copies from one console to another.
var link = regexp.MustCompile(`shoal://[^\s']+`)

// The tutorial of the README, line for line, on three machines of their own: what is typed, and what is answered.
func TestTheReadmesTutorial(t *testing.T) {
	t.Parallel()
	requireSpaces(t, syscall.CLONE_NEWNET, "ip", "nsenter", "sh", "dd", "env")
	steps := tutorial(t)
	if len(steps) < 10 {
		t.Fatalf("the README's tutorial has %d lines", len(steps))
	}
	machines, terminals, copied := network(t, 3), make(map[string]*console), ""
	dirs := make(map[string]string)
	for i, name := range []string{"A", "B", "C"} {
		dir, state := t.TempDir(), newState()
		dirs[name] = dir
		for _, window := range []string{name, name + "2"} {
			terminals[window] = &console{t: t, within: machines[i].within(), dir: dir, state: state}
		}
	}
	for _, s := range steps {
		w := terminals[s.where]
		if w == nil {
			t.Fatalf("the README has no machine %s", s.where)
		}
		if s.line == "^C" {
			w.ctrlC()
		} else {
			w.typed(link.ReplaceAllLiteralString(s.line, copied))
		}
		w.answered(s.shown)
		if out, _ := w.running.printed(); link.MatchString(out) {
			copied = link.FindString(out)
		}
	}
	for _, w := range terminals {
		w.finish()
	}
	for _, name := range []string{"big.img", "second.img"} {
		for _, on := range []string{"B", "C"} {
			sameContent(t, filepath.Join(dirs[on], name), filepath.Join(dirs["A"], name))
		}
	}
}

// What a reader sees must be what is there: the comparison above finds a word that differs, a line too few, and a line too many.
func TestWhatTheReadmeShowsIsCompared(t *testing.T) {
	shown := []string{"a ... c", "...", "end"}
	var err error
	for out, fits := range map[string]bool{
		"a b c\nend\n": true, "a b c\nx\ny\nend\n": true, "a b d\nend\n": false, "a b c\n": false, "a b c\nend\nmore\n": false, "x\na b c\nend\n": false,
	} {
		if pattern(shown).MatchString(out) != fits {
			err = errors.Join(err, errors.New(out))
		}
	}
	if err != nil {
		t.Error(err)
	}
}
