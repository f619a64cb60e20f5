package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// screen is where the program talks: lines, and on a terminal bars below them that change in place.
type screen struct {
	out      io.Writer
	terminal bool
	colour   bool
	utf8     bool

	mu   sync.Mutex // guards bars
	bars *mpb.Progress
}

func newScreen(out io.Writer) *screen {
	s := &screen{out: out, terminal: isTerminal(out)}
	s.colour = s.terminal && os.Getenv("NO_COLOR") == ""
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(os.Getenv(name)); v != "" {
			s.utf8 = strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
			break
		}
	}
	return s
}

// Write writes whole lines above the bars.
func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	bars := s.bars
	s.mu.Unlock()
	if bars != nil {
		if n, err := bars.Write(b); err == nil {
			return n, nil
		}
	}
	return s.out.Write(b)
}

func (s *screen) printf(format string, args ...any) { fmt.Fprintf(s, format, args...) }

// sign picks a sign that the terminal can show.
func (s *screen) sign(fine, plain string) string {
	if s.utf8 {
		return fine
	}
	return plain
}

// gauge is one changing line.
type gauge struct {
	Label string
	Done  int64
	Total int64  // 0: there is no bar
	Facts string // what stands behind the bar
	Short string // the same for a narrow terminal
}

// show draws a line that read describes, ten times a second, until the returned function is called. Without a
// terminal nothing is drawn.
func (s *screen) show(read func() gauge) (stop func()) {
	if !s.terminal {
		return func() {}
	}
	s.mu.Lock()
	if s.bars == nil {
		s.bars = mpb.New(mpb.WithOutput(s.out), mpb.WithRefreshRate(100*time.Millisecond), mpb.WithAutoRefresh())
	}
	bars := s.bars
	s.mu.Unlock()
	style := mpb.BarStyle().Lbound(" [").Filler("=").Tip(">").Padding(" ").Rbound("] ")
	if s.utf8 {
		style = mpb.BarStyle().Lbound(" ").Filler("█").Tip("█").Padding("░").Rbound(" ")
	}
	filler := style.Build()
	bar := bars.MustAdd(0, mpb.BarFillerFunc(func(w io.Writer, st decor.Statistics) error {
		g := read()
		if g.Total == 0 || st.AvailableWidth < 12 {
			return nil
		}
		st.Current, st.Total = g.Done, g.Total
		return filler.Fill(w, st)
	}), mpb.PrependDecorators(decor.Any(func(decor.Statistics) string {
		g := read()
		if g.Total == 0 {
			return g.Label
		}
		return fmt.Sprintf("%s %3d%%", g.Label, g.Done*100/g.Total)
	})), mpb.AppendDecorators(decor.Any(func(st decor.Statistics) string {
		g := read()
		if st.AvailableWidth < len(g.Facts)+16 {
			return g.Short
		}
		return g.Facts
	})))
	return func() { bar.Abort(true); bar.Wait() }
}

// close ends all drawing. What is written afterwards goes straight to the stream.
func (s *screen) close() {
	s.mu.Lock()
	bars := s.bars
	s.bars = nil
	s.mu.Unlock()
	if bars != nil {
		bars.Wait() // until the last bar is gone from the terminal: whoever asked for one has stopped it
	}
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
