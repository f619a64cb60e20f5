package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"shoal/internal/daemon"
	"shoal/internal/exchange"
	"shoal/internal/node"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden screens anew")

// looks are the terminals for which screens are kept: wide and narrow, with all characters and with ASCII alone.
var looks = []struct {
	name string
	look look
}{
	{"80 columns", look{width: 79, height: 24, utf8: true}},
	{"40 columns", look{width: 39, height: 24, utf8: true}},
	{"80 columns, ASCII", look{width: 79, height: 24}},
}

// golden compares screens with those that are kept, and that none is wider than its terminal.
func golden(t *testing.T, file string, draw func(add func(title string, k look, lines []line))) {
	t.Helper()
	var b strings.Builder
	draw(func(title string, k look, lines []line) {
		fmt.Fprintf(&b, "== %s\n", title)
		for _, l := range lines {
			l = l.cut(k.width)
			if w := l.cells(); w > k.width {
				t.Errorf("%s: a line has %d cells, the terminal %d: %q", title, w, k.width, l.text())
			}
			if text := l.text(); !k.utf8 && strings.ContainsFunc(text, func(r rune) bool { return r > '~' }) {
				t.Errorf("%s: not ASCII: %q", title, text)
			}
			fmt.Fprintln(&b, strings.TrimRight(l.text(), " "))
		}
	})
	path := filepath.Join("testdata", "screens", file)
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(b.String(), "\n")); diff != "" {
		t.Errorf("the screens are not those of %s (go test ./cmd/shoal -update writes it anew; -was +is):\n%s", path, diff)
	}
}

// someStrip is a content of which the first part is here, some of the rest, and some under way.
func someStrip() strip {
	rng := rand.New(rand.NewPCG(1, 2))
	have, under := make([]bool, 16384), []uint32{}
	for i := range have {
		have[i] = i < 4000 || i > 9000 && i < 13000 && rng.IntN(3) > 0 || i > 6000 && i < 7000 && rng.IntN(9) == 0
	}
	for i := range uint32(40) {
		under = append(under, 14000+i*20)
	}
	return stripOf(have, under)
}

func neighboursFor(n int) (out []neighbourView) {
	for i := range n {
		out = append(out, neighbourView{
			addr: fmt.Sprintf("10.0.0.%d:50002", 5+i), id: fmt.Sprintf("%c7f39qmdab", 'a'+i%26), down: float64(200<<20 - i<<20), up: float64(i << 20),
			has: 100 - 3*i, got: 11, rtt: time.Duration(300+i*150) * time.Microsecond, gives: i < 7,
		})
	}
	return out
}

// getViews are all situations of a download.
func getViews() map[string]getView {
	const gib = 1 << 30
	base := getView{
		name: "ubuntu-lab.img", phase: node.Fetching, size: 64 * gib, done: 26 * gib, rate: 1.08 * gib, left: 35 * time.Second, strip: someStrip(), full: 1,
		part: 6, peers: 9, givingTo: 5, up: 640 << 20, given: 12 * gib,
	}
	with := func(change func(*getView)) getView { v := base; change(&v); return v }
	return map[string]getView{
		"01 looking":              {name: "ubuntu-lab.img", phase: node.Searching},
		"02 looking for long":     {name: "ubuntu-lab.img", phase: node.Searching, inPhase: 95 * time.Second},
		"03 nobody has it yet":    {name: "ubuntu-lab.img", phase: node.Meeting, size: 64 * gib, inPhase: 3 * time.Second},
		"04 asking":               {name: "ubuntu-lab.img", phase: node.Meeting, size: 64 * gib, peers: 3},
		"05 checking":             {name: "ubuntu-lab.img", phase: node.Checking, size: 64 * gib, checked: 46 * gib},
		"06 no rate yet":          with(func(v *getView) { v.left, v.givingTo, v.rate = 0, 0, 3<<20 }),
		"07 fetching":             base,
		"08 one source":           with(func(v *getView) { v.part, v.givingTo = 0, 0 }),
		"09 only partial sources": with(func(v *getView) { v.full, v.givingTo = 0, 1 }),
		"10 nobody gives":         with(func(v *getView) { v.full, v.part, v.still, v.peers, v.givingTo = 0, 0, 130*time.Second, 0, 0 }),
		"11 nothing new":          with(func(v *getView) { v.full, v.part, v.still, v.peers, v.givingTo = 0, 0, 4*time.Second, 3, 2 }),
		"12 disk full":            with(func(v *getView) { v.diskFull = true }),
		"13 last sync":            with(func(v *getView) { v.done, v.givingTo = v.size, 0 }),
		"14 complete, giving":     with(func(v *getView) { v.phase = node.Complete }),
		"15 complete, nobody":     with(func(v *getView) { v.phase, v.givingTo, v.given = node.Complete, 0, 0 }),
		"16 neighbours":           with(func(v *getView) { v.table, v.neighbours = true, neighboursFor(4) }),
		"17 many neighbours":      with(func(v *getView) { v.table, v.neighbours = true, neighboursFor(30) }),
		"18 classic, no pieces":   with(func(v *getView) { v.strip, v.part, v.givingTo = strip{}, 0, 0 }),
		"19 hostile name":         {name: "a\x1b[2J\u202egnp.exe \u65e5\u672c\u8a9e\u65e5\u672c\u8a9e\u65e5\u672c\u8a9e\u65e5\u672c\u8a9e\u65e5\u672c\u8a9e\u65e5\u672c\u8a9e", phase: node.Searching},
		"20 merging":              {name: "old.iso", phase: node.Merging, size: gib},
	}
}

func TestScreensOfADownload(t *testing.T) {
	views := getViews()
	golden(t, "get.golden", func(add func(string, look, []line)) {
		for _, name := range sortedKeys(views) {
			for _, l := range looks {
				add(name+", "+l.name, l.look, views[name].lines(l.look))
			}
		}
	})
}

func TestLogLinesOfADownload(t *testing.T) {
	views := getViews()
	at := time.Date(2026, 11, 22, 19, 30, 31, 0, time.UTC)
	for name, want := range map[string]string{
		"05 checking":     `2026-11-22T19:30:31Z get "ubuntu-lab.img" 0% 0B/64GiB checking`,
		"06 no rate yet":  `2026-11-22T19:30:31Z get "ubuntu-lab.img" 40% 26GiB/64GiB 3.0MiB/s sources=7`,
		"07 fetching":     `2026-11-22T19:30:31Z get "ubuntu-lab.img" 40% 26GiB/64GiB 1.1GiB/s eta=35s sources=7`,
		"10 nobody gives": `2026-11-22T19:30:31Z get "ubuntu-lab.img" 40% 26GiB/64GiB waiting for sources (2 min 10 s)`,
		"12 disk full":    `2026-11-22T19:30:31Z get "ubuntu-lab.img" 40% 26GiB/64GiB paused: the disk is full, waiting for space; it goes on by itself`,
	} {
		if got := views[name].logLine(at); got != want {
			t.Errorf("%s:\n%s, want\n%s", name, got, want)
		}
	}
}

func TestScreensOfAGauge(t *testing.T) {
	g := gauge{Label: `Hashing "ubuntu-lab.img"`, Done: 68, Total: 100, Facts: "43 GiB/64 GiB  2.9 GiB/s", Short: "2.9 GiB/s"}
	golden(t, "gauge.golden", func(add func(string, look, []line)) {
		for _, l := range looks {
			add("hashing, "+l.name, l.look, []line{g.line(l.look)})
			add("serving, "+l.name, l.look, []line{gauge{Label: "Serving: 5 connections, 640 MiB/s up, 12 GiB in all"}.line(l.look)})
		}
	})
}

// topStates are the situations of shoal top.
func topStates() map[string]*topState {
	const gib = 1 << 30
	full := &topState{
		Swarm: "dtyrr7d7dse2telnpaigngqtae", Servers: []string{"10.0.0.5:50001"}, Reachable: true, Up: 8040, joined: 3, left: 1,
		Files: []topFile{
			{"ubuntu-lab.img", "aa", 64 * gib, 42, 1, 7200, "f6jlkpgzoyief7az", "file"},
			{"cuda-12", "bb", 4 * gib, 12, 12, 90, "jvg7aoesgx4i2tyh", "directory"},
			{"evil\x1b[31m.img", "cc", 700 << 20, 2, 2, 30, "jvg7aoesgx4i2tyh", "file"},
		},
		Peers: []topPeer{
			{"f6jlkpgzoyief7az", "build-1", "server", []string{"10.0.0.5:50002"}, 3, "shoal/2", false},
			{"jvg7aoesgx4i2tyh", "node17", "member", []string{"10.0.0.17:50002", "[fd00::17]:50002"}, 1, "shoal/2", true},
			{"", "", "", []string{"10.0.0.40:50002"}, 0, "classic", false},
		},
		Transfers: []topTransfer{
			{"share", string(daemon.Seeding), "cuda-12", "bb", 4 * gib, 4 * gib, 0, 88 << 20, 9 * gib, 0, 0},
			{"get", string(daemon.Downloading), "ubuntu-lab.img", "aa", 64 * gib, 26 * gib, gib, 640 << 20, 12 * gib, 35, 7},
			{"get", string(daemon.Failed), "old.iso", "dd", 700 << 20, 100 << 20, 0, 0, 0, 0, 0},
		},
	}
	away := *full
	away.problem = "no answer: trying again"
	many := &topState{Swarm: full.Swarm, Servers: full.Servers, Reachable: true, Up: 5, Running: true}
	for i := range 200 {
		many.Files = append(many.Files, topFile{fmt.Sprintf("file-%03d.bin", i), fmt.Sprint(i), int64(i) << 30, uint64(i%7 + 1), 1, uint64(i), "f6jlkpgzoyief7az", "file"})
		many.Peers = append(many.Peers, topPeer{fmt.Sprintf("%016d", i), fmt.Sprintf("node%03d", i), "member", []string{"10.0.1.1:50002"}, uint64(i), "shoal/2", false})
	}
	return map[string]*topState{
		"1 a swarm": full, "2 no server": &away, "3 nothing": {Swarm: full.Swarm, Servers: full.Servers, Reachable: true}, "4 many": many,
		"5 alone": {Swarm: full.Swarm, Servers: full.Servers, Peers: full.Peers[:2]},
	}
}

// after is what is seen after keys.
func after(t *testing.T, s *topState, k look, keys ...string) []line {
	t.Helper()
	var u topUI
	u.lines(s, k)
	for _, key := range keys {
		quit := false
		if u, quit = u.key(key); quit {
			t.Fatalf("%q ends it", key)
		}
		u.lines(s, k)
	}
	return u.lines(s, k)
}

func TestScreensOfTop(t *testing.T) {
	states := topStates()
	golden(t, "top.golden", func(add func(string, look, []line)) {
		for _, name := range sortedKeys(states) {
			for _, l := range looks {
				add(name+", "+l.name, l.look, after(t, states[name], l.look))
			}
		}
		k := looks[0].look
		for _, keys := range [][]string{
			{"f"},
			{"p"},
			{"f", "s"},
			{"f", "s", "s"},
			{"p", "down", "enter"},
			{"enter"},
			{"end", "enter"},
			{"?"},
			{"/", "c", "u"},
			{"/", "c", "u", "enter"},
			{"/", "c", "u", "enter", "esc"},
			{"/", "z", "z", "z"},
		} {
			add("a swarm, keys "+strings.Join(keys, " "), k, after(t, states["1 a swarm"], k, keys...))
		}
		add("many, end", k, after(t, states["4 many"], k, "end"))
		add("many, files, page down", k, after(t, states["4 many"], k, "f", "pagedown", "pagedown"))
		u := topUI{endless: true}
		add("printed once", look{width: 120, utf8: true}, u.lines(states["1 a swarm"], look{width: 120, utf8: true}))
	})
}

func TestTopFillsTheScreenAndNoMore(t *testing.T) {
	for name, s := range topStates() {
		for _, k := range []look{{width: 39, height: 12, utf8: true}, {width: 79, height: 24}, {width: 200, height: 60, utf8: true}} {
			for _, keys := range [][]string{nil, {"f"}, {"p"}, {"?"}, {"enter"}, {"/", "x"}, {"end"}} {
				if n := len(after(t, s, k, keys...)); n != k.height {
					t.Errorf("%s, %v, keys %v: %d lines", name, k, keys, n)
				}
			}
		}
	}
}

func TestKeysThatEndTop(t *testing.T) {
	for _, key := range []string{"q", "ctrl-c"} {
		if _, quit := (topUI{}).key(key); !quit {
			t.Errorf("%s does not", key)
		}
	}
	if u, quit := (topUI{typing: true}).key("q"); quit || u.filter != "q" {
		t.Errorf("a q of a filter: %+v, quit %v", u, quit)
	}
}

func TestKeysAsTerminalsSendThem(t *testing.T) {
	for sent, want := range map[string]string{
		"j": "j", "\x1b[A\x1b[B": "up down", "\x1bOA": "up", "\x1b": "esc", "\r": "enter", "é日": "é 日", "\x1b[1;5Cx": "x", "\x1b[200": "", "\x1b[6~q": "pagedown q", "\x7f": "backspace",
		"\x1bq": "esc q", "\xff": "\xff",
	} {
		if got := strings.Join(keysOf(sent), " "); got != want {
			t.Errorf("%q: %q, want %q", sent, got, want)
		}
	}
}

// FuzzKeys: whatever a terminal sends, keys are read from it, and a screen comes of them.
func FuzzKeys(f *testing.F) {
	f.Add("jjj\x1b[A/abc\r?q")
	s := topStates()["1 a swarm"]
	f.Fuzz(func(t *testing.T, sent string) {
		var u topUI
		for _, key := range keysOf(sent) {
			u, _ = u.key(key)
			if n := len(u.lines(s, looks[1].look)); n != looks[1].look.height {
				t.Fatalf("%d lines after %q", n, key)
			}
		}
	})
}

func TestAStripShowsEachStateInASignOfItsOwn(t *testing.T) {
	have := []bool{true, true, true, false, true, false, false, false, false, false, false, false}
	s := stripOf(have, []uint32{7, 99})
	for _, c := range []struct {
		k    look
		want string
	}{{look{utf8: true}, "█▓▒░··"}, {look{}, "#*+-.."}} {
		// Columns of two pieces: whole; half; half; one under way; none.
		if got := s.draw(c.k, 6).text(); got != strings.Replace(c.want, "▒", "▓", 1) && got != strings.Replace(c.want, "+", "*", 1) {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if got := s.draw(look{}, 4).text(); got != "#+-." {
		t.Errorf("four columns of three pieces: %q", got)
	}
	if got := s.draw(look{}, 24).text(); got != "######..##....--........" {
		t.Errorf("more columns than pieces: %q", got)
	}
}

func TestAStripOfManyPiecesLosesNone(t *testing.T) {
	have := make([]bool, 262_144)
	for i := range have {
		have[i] = true
	}
	if got := stripOf(have, nil).draw(look{}, 60).text(); got != strings.Repeat("#", 60) {
		t.Error(got)
	}
	for _, i := range []int{0, 1, 131_071, 200_003, 262_143} {
		have[i] = false
		if got := stripOf(have, nil).draw(look{}, 60).text(); strings.Count(got, "*") != 1 || got[i*60/262_144] != '*' {
			t.Errorf("without piece %d: %s", i, got)
		}
		have[i] = true
	}
	for i := range have {
		have[i] = false
	}
	for _, i := range []uint32{0, 131_071, 200_003, 262_143} {
		if got := stripOf(have, []uint32{i}).draw(look{}, 60).text(); strings.Count(got, "-") != 1 || got[i*60/262_144] != '-' {
			t.Errorf("piece %d under way: %s", i, got)
		}
	}
}

func TestColumnsOfTheRunningPeerAreAStrip(t *testing.T) {
	s := stripOfColumns(&daemon.Pieces{Columns: 6, Have: [][2]int{{2, 100}, {1, 60}, {2, 0}, {1, 1}}, Under: [][2]int{{4, 0}, {1, 2}, {1 << 40, 1}}})
	if got := s.draw(look{}, 6).text(); got != "##*.-+" {
		t.Error(got)
	}
	if got := len(stripOfColumns(&daemon.Pieces{Have: [][2]int{{1 << 40, 100}, {5, 1}}}).here); got != stripCells {
		t.Errorf("%d cells of a foolish answer", got)
	}
}

// clock is a time that a test turns on.
type clock struct{ now time.Time }

func (c *clock) pass(d time.Duration, each func(now time.Time)) {
	for end := c.now.Add(d); c.now.Before(end); c.now = c.now.Add(drawEvery) {
		each(c.now)
	}
}

func TestARateIsThatOfTheLastFiveSeconds(t *testing.T) {
	c, m := clock{time.Unix(1e9, 0)}, meter{}
	bytes := int64(0)
	at := func(rate int64) func(time.Time) {
		return func(now time.Time) { bytes += rate / 10; m.add(now, bytes) }
	}
	near := func(want float64) {
		t.Helper()
		if got := m.rate(); got < want*0.95 || got > want*1.05+1 {
			t.Errorf("%.0f bytes a second, want %.0f", got, want)
		}
	}
	c.pass(time.Second, at(1000))
	near(1000)
	c.pass(10*time.Second, at(1000))
	near(1000)
	c.pass(5200*time.Millisecond, at(9000))
	near(9000)
	c.pass(5200*time.Millisecond, at(0))
	near(0)
	if n := len(m.samples); n > 30 {
		t.Errorf("%d samples", n)
	}
}

func TestTheEndIsToldOnlyWhileTheRateIsSteady(t *testing.T) {
	c, s := clock{time.Unix(1e9, 0)}, sampler{}
	st := node.FetchStatus{Phase: node.Fetching, Name: "a", Size: 100_000_000}
	var v getView
	at := func(rate int64) func(time.Time) {
		return func(now time.Time) {
			st.Exchange.Received += rate / 10
			st.Exchange.Done = st.Exchange.Received
			v = s.view(now, st, strip{})
		}
	}
	told := 0
	c.pass(4*time.Second, func(now time.Time) {
		if at(1_000_000)(now); v.left > 0 {
			told++
		}
	})
	if told > 0 {
		t.Error("told before it can be known")
	}
	c.pass(46*time.Second, at(1_000_000))
	if v.left < 49*time.Second || v.left > 51*time.Second {
		t.Errorf("%v left of 50 s", v.left)
	}
	c.pass(3*time.Second, at(20_000)) // it falters
	if v.left != 0 {
		t.Errorf("%v left, though the rate has just changed", v.left)
	}
	c.pass(6*time.Second, at(0))
	if v.left != 0 || v.still < 5*time.Second {
		t.Errorf("%v left, still for %v", v.left, v.still)
	}
	c.pass(12*time.Second, at(500_000))
	want := time.Duration(float64(st.Size-st.Exchange.Done)/500_000) * time.Second
	if diff := v.left - want; v.left == 0 || diff < -want/10 || diff > want/10 {
		t.Errorf("%v left of %v", v.left, want)
	}
}

func TestWhoGivesAndWhoIsGiven(t *testing.T) {
	c, s := clock{time.Unix(1e9, 0)}, sampler{}
	st := node.FetchStatus{Phase: node.Fetching, Name: "a", Size: 64 << 20} // 1,024 pieces
	full := exchange.Neighbour{Name: "full", Pieces: 1024, Active: 1}
	part := exchange.Neighbour{Name: "part", Pieces: 1023}
	idle := exchange.Neighbour{Name: "idle", Pieces: 0}
	var v getView
	c.pass(3*time.Second, func(now time.Time) {
		part.Received += 1000
		idle.Sent += 500
		st.Exchange.Neighbours = []exchange.Neighbour{idle, part, full}
		st.Exchange.Sent += 500
		v = s.view(now, st, strip{})
	})
	if v.full != 1 || v.part != 1 || v.givingTo != 1 || v.peers != 3 {
		t.Errorf("%d full, %d partial, giving to %d of %d", v.full, v.part, v.givingTo, v.peers)
	}
	if n := v.neighbours[0]; n.addr != "part" || n.has != 99 {
		t.Errorf("first %+v", n)
	}
	if v.up < 4500 || v.up > 5500 {
		t.Errorf("%.0f bytes a second are given", v.up)
	}
	st.Exchange.Neighbours = nil
	if v = s.view(c.now, st, strip{}); len(s.each) > 0 || v.peers > 0 {
		t.Error("those who went are still here")
	}
}

func TestLinesAreFoldedBetweenWords(t *testing.T) {
	for text, want := range map[string]string{
		"one two three four":   "one two \nthree four",
		"short":                "short",
		" not this one, ever":  " not this one, ever",
		"averyverylongword is": "averyverylongword \nis",
		"日本語 日本語 日本語":          "日本語 \n日本語 \n日本語",
	} {
		if got := fold(text, 11); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestColour(t *testing.T) {
	for _, c := range []struct {
		terminal bool
		env      map[string]string
		want     bool
	}{
		{true, nil, true},
		{false, nil, false},
		{true, map[string]string{"NO_COLOR": "1"}, false},
		{false, map[string]string{"FORCE_COLOR": "1"}, true},
		{true, map[string]string{"FORCE_COLOR": "0"}, false},
		{true, map[string]string{"FORCE_COLOR": "1", "NO_COLOR": "1"}, false},
	} {
		if got := wantsColour(c.terminal, func(name string) string { return c.env[name] }); got != c.want {
			t.Errorf("terminal %v, %v: %v", c.terminal, c.env, got)
		}
	}
	l := line{{"a", plain}, {"b", good}}
	if l.paint(false) != "ab" || l.paint(true) != "a\x1b[32mb\x1b[0m" {
		t.Errorf("%q, %q", l.paint(false), l.paint(true))
	}
}

func TestLocales(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want bool
	}{
		{map[string]string{"LANG": "de_DE.UTF-8"}, true},
		{map[string]string{"LANG": "C.utf8"}, true},
		{map[string]string{"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, false},
		{nil, false},
	} {
		if got := localeIsUTF8(func(name string) string { return c.env[name] }); got != c.want {
			t.Errorf("%v: %v", c.env, got)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
