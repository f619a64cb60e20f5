package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// drawEvery is how often what changes is drawn anew.
const drawEvery = 100 * time.Millisecond

// screen is where the program talks: lines, and on a terminal panels below them that change in place.
type screen struct {
	out      io.Writer
	terminal bool
	colour   bool
	utf8     bool
	size     func() (width, height int)

	mu     sync.Mutex // guards what follows
	panels []*panel
	drawn  []line // that stand above the cursor now
	width  int    // of the terminal when they were drawn
	stop   chan struct{}
	ended  chan struct{}
	muted  bool // somebody else has the terminal to itself
}

// panel is a part of the screen that changes. Draw is called by one goroutine at a time, and must not write to the screen.
type panel struct{ draw func(look) []line }

func newScreen(out io.Writer) *screen {
	s := &screen{out: out, terminal: isTerminal(out) && canDraw(out), utf8: localeIsUTF8(os.Getenv)}
	s.colour = wantsColour(s.terminal, os.Getenv)
	s.size = func() (int, int) { return terminalSize(out) }
	return s
}

// wantsColour says whether there is to be colour. NO_COLOR weighs more than FORCE_COLOR.
func wantsColour(terminal bool, getenv func(string) string) bool {
	force := getenv("FORCE_COLOR")
	switch {
	case getenv("NO_COLOR") != "":
		return false
	case force != "":
		return force != "0"
	}
	return terminal
}

func localeIsUTF8(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(getenv(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// terminalSize returns what a terminal says of itself; one that says nothing is taken for an old one.
func terminalSize(w io.Writer) (width, height int) {
	if f, ok := w.(*os.File); ok {
		if width, height, err := term.GetSize(int(f.Fd())); err == nil && width > 0 && height > 0 {
			return width, height
		}
	}
	return 80, 24
}

// look is how the terminal is now. The last column is left free: what a terminal does after it is written differs.
func (s *screen) look() look {
	width, height := s.size()
	return look{width: max(width-1, 20), height: max(height, 4), utf8: s.utf8}
}

// Write writes whole lines above the panels.
func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.muted {
		return len(b), nil
	}
	if len(s.drawn) == 0 {
		return s.out.Write(b)
	}
	below := s.drawn
	text := s.erase() + strings.ReplaceAll(string(b), "\n", "\r\n") + s.put(below)
	if _, err := io.WriteString(s.out, text); err != nil {
		return 0, err
	}
	return len(b), nil
}

// printf writes lines. A terminal gets them folded between words; not those that begin with a space, which are to be copied.
func (s *screen) printf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if s.terminal {
		lines := strings.Split(text, "\n")
		for i, l := range lines {
			lines[i] = fold(l, s.look().width)
		}
		text = strings.Join(lines, "\n")
	}
	fmt.Fprint(s, text)
}

// mute lets nothing through until the returned function is called.
func (s *screen) mute() (end func()) {
	set := func(muted bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.muted = muted
	}
	set(true)
	return func() { set(false) }
}

// sign picks a sign that the terminal can show.
func (s *screen) sign(fine, plain string) string {
	text := look{utf8: s.utf8}.sign(fine, plain)
	if s.colour {
		return line{{text, good}}.paint(true)
	}
	return text
}

// panel shows what draw describes, ten times a second, until the returned function is called. Without a terminal nothing is drawn.
func (s *screen) panel(draw func(look) []line) (stop func()) {
	if !s.terminal {
		return func() {}
	}
	p := &panel{draw}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.panels = append(s.panels, p)
	if s.stop == nil {
		s.stop, s.ended = make(chan struct{}), make(chan struct{})
		go s.run(s.stop, s.ended) // ends with close
	}
	return func() { s.remove(p) }
}

func (s *screen) remove(p *panel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range s.panels {
		if other == p {
			s.panels = append(s.panels[:i:i], s.panels[i+1:]...)
			s.redraw()
			return
		}
	}
}

func (s *screen) run(stop, ended chan struct{}) {
	defer close(ended)
	ticker := time.NewTicker(drawEvery)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			s.mu.Lock()
			s.redraw()
			s.mu.Unlock()
		}
	}
}

// redraw draws the panels, if they are not what is there.
func (s *screen) redraw() {
	k := s.look()
	var lines []line
	for _, p := range s.panels {
		for _, l := range p.draw(k) {
			lines = append(lines, l.cut(k.width))
		}
	}
	lines = lines[:min(len(lines), k.height-1)] // the cursor needs a row, too
	if same(lines, s.drawn) && k.width == s.width {
		return
	}
	fmt.Fprint(s.out, s.erase()+s.put(lines))
}

func same(a, b []line) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].paint(true) != b[i].paint(true) {
			return false
		}
	}
	return true
}

// erase returns what takes the panels off the terminal.
func (s *screen) erase() string {
	rows := 0
	width, _ := s.size()
	for _, l := range s.drawn { // a terminal that has become narrower has folded them
		rows += max(1, (l.cells()+width-1)/width)
	}
	s.drawn = nil
	if rows == 0 {
		return ""
	}
	return fmt.Sprintf("\r\x1b[%dA\x1b[J", rows)
}

// put returns what draws lines below which the cursor then stands.
func (s *screen) put(lines []line) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.paint(s.colour) + "\r\n")
	}
	s.drawn, s.width = lines, s.look().width
	return b.String()
}

// close ends all drawing, and leaves nothing of it. What is written afterwards goes straight to the stream.
func (s *screen) close() {
	s.mu.Lock()
	stop, ended := s.stop, s.ended
	s.panels, s.stop = nil, nil
	s.mu.Unlock()
	if stop == nil {
		return
	}
	close(stop)
	<-ended
	s.mu.Lock()
	defer s.mu.Unlock()
	if text := s.erase(); text != "" {
		fmt.Fprint(s.out, text)
	}
}

// gauge is one changing line.
type gauge struct {
	Label string
	Done  int64
	Total int64  // 0: there is no bar
	Facts string // what stands behind the bar
	Short string // the same for a narrow terminal
}

// show draws a line that read describes until the returned function is called.
func (s *screen) show(read func() gauge) (stop func()) {
	return s.panel(func(k look) []line { return []line{read().line(k)} })
}

func (g gauge) line(k look) line {
	if g.Total == 0 {
		return textLine(k.fit(g.Label, k.width))
	}
	percent := fmt.Sprintf(" %3d%%  ", g.Done*100/g.Total)
	facts := g.Facts
	if k.width < cellsOf(g.Label)+len(percent)+len(facts)+14 {
		facts = g.Short
	}
	label := k.fit(g.Label, max(8, k.width-len(percent)-cellsOf(facts)-8))
	room := min(50, k.width-cellsOf(label)-len(percent)-cellsOf(facts)-2)
	l := line{{label, plain}, {percent, bold}}
	if room >= 4 {
		l = append(append(l, bar(k, room, float64(g.Done)/float64(g.Total))...), span{"  ", plain})
	}
	return append(l, span{facts, plain})
}

// printJSON writes one object as one line.
func printJSON(w io.Writer, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("shoal: " + err.Error())
	}
	fmt.Fprintf(w, "%s\n", b)
}

// seconds writes a duration as people read it on a bar: 0:35, 12:04, 1:02:03.
func seconds(d time.Duration) string {
	n := int64(d.Round(time.Second) / time.Second)
	if n >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", n/3600, n/60%60, n%60)
	}
	return fmt.Sprintf("%d:%02d", n/60, n%60)
}
