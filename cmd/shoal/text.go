package main

import (
	"strconv"
	"strings"

	"github.com/mattn/go-runewidth"
)

// look is what a drawing must know of the terminal. Drawings are functions of what there is to see and of a look.
type look struct {
	width, height int
	utf8          bool
}

// shade is how a text is shown. It never carries a meaning alone.
type shade uint8

const (
	plain shade = iota
	bold
	dim
	good
	warn
	bad
	accent
)

// shadeCodes are what terminals call the shades.
var shadeCodes = [...]string{plain: "", bold: "1", dim: "2", good: "32", warn: "33", bad: "31", accent: "36"}

// span is a text of one shade.
type span struct {
	text  string
	shade shade
}

// line is a row of the terminal.
type line []span

func textLine(text string) line { return line{{text, plain}} }

func (l line) text() string {
	var b strings.Builder
	for _, s := range l {
		b.WriteString(s.text)
	}
	return b.String()
}

func (l line) cells() int { return cellsOf(l.text()) }

// cut returns as much of a line as so many cells hold.
func (l line) cut(cells int) line {
	var out line
	for _, s := range l {
		if w := cellsOf(s.text); w > cells {
			s.text = cellRules().Truncate(s.text, cells, "")
			return append(out, s)
		} else {
			cells -= w
		}
		out = append(out, s)
	}
	return out
}

// paint is a line as the terminal is sent it.
func (l line) paint(colour bool) string {
	var b strings.Builder
	for _, s := range l {
		if colour && s.shade != plain && s.text != "" {
			b.WriteString("\x1b[" + shadeCodes[s.shade] + "m" + s.text + "\x1b[0m")
		} else {
			b.WriteString(s.text)
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// cellRules does not depend on the user's language, unlike the library's own.
func cellRules() *runewidth.Condition { return &runewidth.Condition{StrictEmojiNeutral: true} }

func cellsOf(s string) int { return cellRules().StringWidth(s) }

// sign picks a sign that the terminal can show.
func (k look) sign(fine, plain string) string {
	if k.utf8 {
		return fine
	}
	return plain
}

// quoted is a name as a terminal can be shown it, in at most so many cells.
func (k look) quoted(name string, cells int) string { return k.fit(k.quote(name), cells) }

func (k look) quote(name string) string {
	if k.utf8 {
		return strconv.Quote(name)
	}
	return strconv.QuoteToASCII(name)
}

// name is quoted only where it must be.
func (k look) name(name string, cells int) string {
	if q := k.quote(name); q != `"`+name+`"` {
		return k.fit(q, cells)
	}
	return k.fit(name, cells)
}

// fit shortens a text to so many cells, and says that it did.
func (k look) fit(s string, cells int) string {
	if cells <= 0 {
		return ""
	}
	return cellRules().Truncate(s, cells, k.sign("…", "~"))
}

func padRight(s string, cells int) string { return cellRules().FillRight(s, cells) }
func padLeft(s string, cells int) string  { return cellRules().FillLeft(s, cells) }

// flow sets facts side by side, two spaces apart, on as many rows as they need. Each but the first begins with an indent.
func flow(k look, indent string, facts []span) (rows []line) {
	row, used := line{}, 0
	for i, f := range facts {
		w := cellsOf(f.text)
		if i > 0 {
			if used+2+w > k.width {
				rows = append(rows, row)
				row, used = line{{indent, plain}}, cellsOf(indent)
			} else {
				row = append(row, span{"  ", plain})
				used += 2
			}
		}
		if used+w > k.width {
			f.text = k.fit(f.text, k.width-used)
		}
		row = append(row, f)
		used += w
	}
	return append(rows, row)
}

// fold breaks a line between words, where it is longer than so many cells. A line that begins with a space stays as it is.
func fold(text string, cells int) string {
	if cellsOf(text) <= cells || strings.HasPrefix(text, " ") {
		return text
	}
	var b strings.Builder
	used := 0
	for i, word := range strings.SplitAfter(text, " ") {
		if w := cellsOf(strings.TrimRight(word, " ")); i > 0 && used+w > cells {
			b.WriteByte('\n')
			used = 0
		}
		b.WriteString(word)
		used += cellsOf(word)
	}
	return b.String()
}

// hang sets a text behind a label. On a terminal that is too narrow for it in one row, the others begin with an indent.
func (s *screen) hang(label, indent, text string) string {
	width := 0
	if s.terminal {
		width = s.look().width
	}
	if width == 0 || cellsOf(label+text) <= width {
		return label + text
	}
	list := strings.Contains(label, "next:") || strings.Contains(text, "; 2: ")
	var b strings.Builder
	b.WriteString(label)
	used, first, ended := cellsOf(label), true, false // ended: one of several things, each of which begins a row
	for _, a := range atoms(text) {
		switch w := cellsOf(a.text); {
		case first:
			b.WriteString(a.text)
			used += w
		case used+cellsOf(a.gap)+w <= width && !ended:
			b.WriteString(a.gap + a.text)
			used += cellsOf(a.gap) + w
		default:
			b.WriteString("\n" + indent + a.text)
			used = cellsOf(indent) + w
		}
		first, ended = false, list && strings.HasSuffix(a.text, ";")
	}
	return b.String()
}

// atom is a part of a text that is not broken, and the blanks before it.
type atom struct{ gap, text string }

// atoms are the words of a text. Commands in it (see failure) are whole, so that they can be copied from a terminal, which folds them itself.
func atoms(text string) (out []atom) {
	before := "  " // what stands before the rest, as far as it matters
	for text != "" {
		rest := strings.TrimLeft(text, " ")
		a := atom{gap: text[:len(text)-len(rest)]}
		before += a.gap
		end := strings.IndexByte(rest, ' ')
		if (strings.HasSuffix(before, "  ") || strings.HasSuffix(before, "; ") || strings.HasSuffix(before, ": ")) && (strings.HasPrefix(rest, "shoal ") || strings.HasPrefix(rest, "sha256sum ")) {
			end = commandEnd(rest)
		}
		if end < 0 {
			end = len(rest)
		}
		a.text, text = rest[:end], rest[end:]
		before = a.text
		out = append(out, a)
	}
	return out
}

// commandEnd is where a command ends: before two blanks, or behind a semicolon; quotes are passed over.
func commandEnd(text string) int {
	quoted := false
	for i, c := range text {
		switch {
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == ';':
			return i + 1
		case c == ' ' && strings.HasPrefix(text[i:], "  "):
			return i
		}
	}
	return len(text)
}

// column is one of a table. Columns of a higher rank are left out first where the terminal is narrow.
type column struct {
	title string
	cells int // at least, of the one that takes what is left
	right bool
	takes bool // what is left
	most  int  // that it takes; 0: any
	rank  int
}

// table sets rows in columns. The one with the number marked has a mark; -1: none.
func table(k look, columns []column, rows [][]span, marked int) (head line, body []line) {
	shown := fitting(k, columns)
	left := k.width
	for _, i := range shown {
		left -= columns[i].cells + 2
	}
	set := func(mark bool, cell func(i int) span) line {
		l := line{{"  ", plain}}
		if mark {
			l[0].text = "> "
		}
		for n, i := range shown {
			c := columns[i]
			if c.takes {
				c.cells += max(0, left)
				if c.most > 0 {
					c.cells = min(c.cells, c.most)
				}
			}
			s := cell(i)
			s.text = k.fit(s.text, c.cells)
			if c.right {
				s.text = padLeft(s.text, c.cells)
			} else {
				s.text = padRight(s.text, c.cells)
			}
			if n > 0 {
				l = append(l, span{"  ", plain})
			}
			l = append(l, s)
		}
		return l
	}
	head = set(false, func(i int) span { return span{columns[i].title, dim} })
	for n, r := range rows {
		body = append(body, set(n == marked, func(i int) span { return r[i] }))
	}
	return head, body
}

// said are facts as lines of text, folded where a terminal would fold them in the middle of a word.
func (s *screen) said(facts ...string) string {
	if !s.terminal {
		return strings.Join(facts, "  ") + "\n"
	}
	var spans []span
	for _, f := range facts {
		for _, part := range strings.Split(fold(f, s.look().width-9), "\n") {
			spans = append(spans, span{strings.TrimRight(part, " "), plain})
		}
	}
	var b strings.Builder
	for _, l := range flow(s.look(), "         ", spans) {
		b.WriteString(l.text() + "\n")
	}
	return b.String()
}

// fitting says which columns have room.
func fitting(k look, columns []column) (shown []int) {
	for most := 9; ; most-- {
		shown = shown[:0]
		used := 0
		for i, c := range columns {
			if c.rank <= most {
				shown, used = append(shown, i), used+c.cells+2
			}
		}
		if used <= k.width || most <= 0 {
			return shown
		}
	}
}
