package main

import (
	"bytes"
	"fmt"
	"html"
	"image/color"
	"strings"
	"time"
)

// The picture's measures, in pixels.
const (
	columnWidth = 7.2
	rowHeight   = 16
	margin      = 14
	titleHeight = 24
	fontSize    = 12
)

// strip is what one row of a terminal showed for a while.
type strip struct {
	pane, row int
	text      string // as SVG
	from, to  time.Duration
}

// film is what was seen, row by row.
type film struct {
	panes   []*pane
	open    map[[2]int]*strip
	strips  []*strip
	columns int
}

// look notes what the terminals show now.
func (f *film) look(now time.Duration) {
	for i, p := range f.panes {
		for row := range p.rows {
			at, text := [2]int{i, row}, p.row(row)
			was := f.open[at]
			if was != nil && was.text == text {
				continue
			}
			if was != nil {
				was.to = now
				delete(f.open, at)
			}
			if text != "" {
				f.open[at] = &strip{pane: i, row: row, text: text, from: now}
				f.strips = append(f.strips, f.open[at])
			}
		}
	}
}

// svg draws the film as an endless loop: each strip is to be seen from its beginning to its end. Who wants no motion sees the last picture.
func (f *film) svg(end time.Duration) []byte {
	var b bytes.Buffer
	width := 2*margin + columnWidth*float64(f.columns)
	tops, height := []float64{}, float64(margin)
	for _, p := range f.panes {
		tops = append(tops, height+titleHeight)
		height += titleHeight + rowHeight*float64(p.rows) + margin
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="%d" role="img" `+
		`aria-label="Three terminals: A shares a file with shoal share; B and C fetch it with shoal get at the same time">`, width, height, fontSize)
	b.WriteString("\n<style>\ntext{fill:#d8dee9;white-space:pre}\n.t{fill:#8fa1b3;font-family:system-ui,sans-serif}\n.s{visibility:hidden;animation-duration:" +
		fmt.Sprintf("%.1fs", end.Seconds()) + ";animation-iteration-count:infinite;animation-timing-function:step-end}\n")
	percent := func(d time.Duration) float64 { return 100 * d.Seconds() / end.Seconds() }
	times := make(map[string]string) // strips that begin and end together share their frames
	class := func(s *strip) string {
		key := fmt.Sprintf("%v %v", s.from, s.to)
		if times[key] == "" {
			times[key] = fmt.Sprintf("k%d", len(times))
			frames := fmt.Sprintf("%.2f%%{visibility:visible}", percent(s.from))
			if s.from > 0 {
				frames = "0%{visibility:hidden}" + frames
			}
			if s.to < end {
				frames += fmt.Sprintf("%.2f%%{visibility:hidden}", percent(s.to))
			} else {
				frames += "100%{visibility:visible}"
			}
			fmt.Fprintf(&b, "@keyframes %[1]s{%[2]s}.%[1]s{animation-name:%[1]s}\n", times[key], frames)
		}
		return times[key]
	}
	for _, s := range f.strips {
		if s.to == 0 {
			s.to = end
		}
		class(s)
	}
	b.WriteString("@media (prefers-reduced-motion:reduce){.s{animation:none}.e{visibility:visible}}\n</style>\n")
	fmt.Fprintf(&b, `<rect width="%.0f" height="%.0f" rx="8" fill="#1b2028"/>`+"\n", width, height)
	for i, p := range f.panes {
		fmt.Fprintf(&b, `<rect x="6" y="%.0f" width="%.0f" height="%.0f" rx="5" fill="#242b35"/><text class="t" x="%d" y="%.0f">%s</text>`+"\n",
			tops[i]-titleHeight, width-12, titleHeight+rowHeight*float64(p.rows)+margin/2, margin, tops[i]-8, html.EscapeString(p.title))
	}
	for _, s := range f.strips {
		last := ""
		if s.to == end {
			last = " e"
		}
		fmt.Fprintf(&b, `<text class="s %s%s" y="%.0f" xml:space="preserve">%s</text>`+"\n", class(s), last, tops[s.pane]+rowHeight*float64(s.row+1)-4, s.text)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// row is a row of the terminal as SVG: runs of one colour, each at its column.
func (p *pane) row(y int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b, run strings.Builder
	at, fill := 0, ""
	flush := func() {
		if text := strings.TrimRight(run.String(), " "); text != "" {
			fmt.Fprintf(&b, `<tspan x="%.1f"%s>%s</tspan>`, margin+columnWidth*float64(at), fill, html.EscapeString(text))
		}
		run.Reset()
	}
	for x := 0; x < p.screen.Width(); x++ {
		text, colour := " ", ""
		if cell := p.screen.CellAt(x, y); cell != nil && cell.Content != "" {
			text, colour = cell.Content, hex(cell.Style.Fg)
		}
		if colour != fill || run.Len() == 0 {
			flush()
			at, fill = x, colour
		}
		run.WriteString(text)
	}
	flush()
	return b.String()
}

func hex(c color.Color) string {
	if c == nil {
		return ""
	}
	r, g, b, _ := c.RGBA()
	return fmt.Sprintf(` fill="#%02x%02x%02x"`, r>>8, g>>8, b>>8)
}
