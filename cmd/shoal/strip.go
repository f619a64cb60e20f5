package main

import (
	"strings"

	"shoal/internal/daemon"
)

// stripCells is how fine a strip is known, whatever the terminal's width.
const stripCells = 2048

// strip is which part of a content is here, cell by cell, from its begin to its end.
type strip struct {
	here  []uint8 // percent of each cell; 0 and 100 only if none or all of it is here
	under []bool  // something of it is under way; nil: that is not known
}

// stripOf aggregates pieces. Under are those under way.
func stripOf(have []bool, under []uint32) strip {
	n := min(len(have), stripCells)
	s := strip{here: make([]uint8, n), under: make([]bool, n)}
	for c := range n {
		from, to := c*len(have)/n, (c+1)*len(have)/n
		s.here[c] = percentOf(have[from:to])
	}
	for _, p := range under {
		if int(p) < len(have) && n > 0 {
			s.under[cellOf(int(p), len(have), n)] = true
		}
	}
	return s
}

// stripOfColumns is what the running peer says of a content.
func stripOfColumns(p *daemon.Pieces) (s strip) {
	if p == nil {
		return s
	}
	for _, run := range p.Have {
		for range min(run[0], stripCells-len(s.here)) {
			s.here = append(s.here, uint8(run[1]))
		}
	}
	s.under = make([]bool, 0, len(s.here))
	for _, run := range p.Under {
		for range min(run[0], len(s.here)-len(s.under)) {
			s.under = append(s.under, run[1] > 0)
		}
	}
	return s
}

// cellOf is the cell of n in which one of all parts lies.
func cellOf(part, all, n int) int {
	c := part * n / all
	for (c+1)*all/n <= part {
		c++
	}
	return c
}

func percentOf(have []bool) uint8 {
	n := 0
	for _, is := range have {
		if is {
			n++
		}
	}
	return roundPercent(n, len(have))
}

// roundPercent says 0 and 100 only of none and all.
func roundPercent(n, all int) uint8 {
	p := n * 100 / all
	if n > 0 && p == 0 {
		return 1
	}
	return uint8(p)
}

// bar is a part of a whole, as a strip of that width.
func bar(k look, width int, part float64) line {
	full := min(max(int(part*float64(width)), 0), width)
	if k.utf8 {
		return line{{strings.Repeat("█", full), accent}, {strings.Repeat("░", width-full), dim}}
	}
	return line{{"[" + strings.Repeat("=", max(full-2, 0)) + strings.Repeat(" ", width-2-max(full-2, 0)) + "]", plain}}
}

// draw sets the strip in a row of that width: what is here wholly, more than half, a little, under way, missing.
func (s strip) draw(k look, width int) line {
	var l line
	for c := range width {
		text, as := s.at(c, width).text(k)
		if n := len(l); n > 0 && l[n-1].shade == as {
			l[n-1].text += text
		} else {
			l = append(l, span{text, as})
		}
	}
	return l
}

// stripState is what is seen of a cell.
type stripState int

const (
	missing stripState = iota
	underWay
	little
	most
	whole
)

// text is a state as a terminal can show it; each is another sign, so that colour only helps.
func (s stripState) text(k look) (string, shade) {
	fine, plainly := [...]string{"·", "░", "▒", "▓", "█"}, [...]string{".", "-", "+", "*", "#"}
	shades := [...]shade{dim, warn, accent, accent, accent}
	return k.sign(fine[s], plainly[s]), shades[s]
}

// at is the state of column c of a row.
func (s strip) at(c, width int) stripState {
	n := len(s.here)
	if n == 0 {
		return missing
	}
	from := c * n / width
	to := max((c+1)*n/width, from+1)
	sum, all, under := 0, true, false
	for i := from; i < to; i++ {
		sum += int(s.here[i])
		all = all && s.here[i] == 100
		under = under || i < len(s.under) && s.under[i]
	}
	switch {
	case all:
		return whole
	case sum*2 >= 100*(to-from):
		return most
	case sum > 0:
		return little
	case under:
		return underWay
	}
	return missing
}
