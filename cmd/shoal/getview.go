package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"shoal/internal/content"
	"shoal/internal/exchange"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/wire"
)

// stalledAfter is how long nothing must have come until that is said.
const stalledAfter = 2 * time.Second

// getView is all that is shown of a download.
type getView struct {
	name       string
	phase      node.Phase
	size       int64
	done       int64 // what is here, and what of pieces under way has come
	checked    int64
	rate, up   float64
	left       time.Duration // until the end; 0: that cannot be said
	strip      strip
	full, part int // who give now: all of it, a part of it
	peers      int // who exchange it with us
	givingTo   int
	given      int64
	diskFull   bool
	still      time.Duration // for which nothing has come
	inPhase    time.Duration
	neighbours []neighbourView // who has given and got most first
	table      bool            // they are shown
}

// neighbourView is one who exchanges a content with us.
type neighbourView struct {
	addr, id string
	down, up float64
	has, got int   // percent of the content
	moved    int64 // bytes, both ways
	rtt      time.Duration
	gives    bool
}

// percent of a size, 100 only if all of it is here.
func percentage(done, size int64) int64 {
	if size <= 0 {
		return 100
	}
	return min(int64(float64(done)*100/float64(size)), 99+done/size)
}

// lines draws a download.
func (v getView) lines(k look) []line {
	switch v.phase {
	case node.Searching:
		return []line{v.waiting(k, "Looking for ")}
	case node.Meeting:
		if v.peers == 0 {
			return []line{v.waiting(k, "Waiting for one who has ")}
		}
		return []line{v.waiting(k, fmt.Sprintf("Asking %s for ", count(v.peers, "neighbour")))}
	case node.Merging:
		return []line{v.waiting(k, "Merging the chunks of ")}
	case node.Checking:
		return []line{gauge{
			Label: "Checking " + k.quoted(v.name, 24), Done: min(v.checked, v.size), Total: max(v.size, 1),
			Facts: size(min(v.checked, v.size)) + " of " + size(v.size),
		}.line(k)}
	case node.Complete:
		return v.giving(k)
	}
	out := []line{v.stripLine(k)}
	facts := append([]span{{fmt.Sprintf("%3d%%", percentage(v.done, v.size)), bold}, {ofSize(v.done, v.size), plain}}, v.facts()...)
	out = append(out, flow(k, "      ", facts)...)
	return append(out, v.neighbourLines(k)...)
}

// waiting is a download of which there is nothing to measure.
func (v getView) waiting(k look, what string) line {
	since := ""
	if v.inPhase >= stalledAfter {
		since = "  (" + waited(v.inPhase) + ")"
	}
	return line{{what, plain}, {k.quoted(v.name, max(k.width-cellsOf(what+since), 8)), plain}, {since, dim}}
}

// logLine is a download as a line of a log.
func (v getView) logLine(now time.Time) string {
	text := fmt.Sprintf("%s get %s %d%% %s/%s", now.UTC().Format(time.RFC3339), quote(v.name), percentage(v.done, v.size), tight(v.done), tight(v.size))
	switch trouble := v.trouble(); {
	case v.phase == node.Checking:
		return text + " checking"
	case trouble == noSpace:
		return text + " paused: the disk is full, waiting for space; it goes on by itself"
	case trouble == noSources:
		return text + fmt.Sprintf(" waiting for sources (%s)", waited(v.still))
	default:
		text += fmt.Sprintf(" %s/s", tight(int64(v.rate)))
		if v.left > 0 {
			text += fmt.Sprintf(" eta=%ds", int(v.left.Seconds()))
		}
		return text + fmt.Sprintf(" sources=%d", v.full+v.part)
	}
}

// trouble is why nothing comes.
type trouble int

const (
	noTrouble trouble = iota
	noSpace
	noSources
)

func (v getView) trouble() trouble {
	switch {
	case v.diskFull:
		return noSpace
	case v.full+v.part == 0 && v.still >= stalledAfter && (v.size == 0 || v.done < v.size):
		return noSources
	}
	return noTrouble
}

// tight is a size as one word.
func tight(bytes int64) string { return strings.ReplaceAll(size(bytes), " ", "") }

func (v getView) stripLine(k look) line {
	if len(v.strip.here) == 0 {
		return bar(k, k.width, float64(v.done)/float64(max(v.size, 1)))
	}
	return v.strip.draw(k, k.width)
}

// facts are the words for what is going on.
func (v getView) facts() (facts []span) {
	switch trouble := v.trouble(); {
	case trouble == noSpace:
		facts = append(facts, span{"paused: the disk is full,", warn}, span{"waiting for space;", warn}, span{"it goes on by itself,", dim}, span{"Ctrl-C is safe", dim})
	case v.size > 0 && v.done >= v.size:
		facts = append(facts, span{"writing the rest to the disk", plain})
	case trouble == noSources:
		facts = append(facts, span{fmt.Sprintf("waiting for sources (%s)", waited(v.still)), warn})
		if v.peers > 0 {
			facts = append(facts, span{count(v.peers, "peer") + " here, nothing new", plain})
		}
	default:
		eta := "eta --:--"
		if v.left > 0 {
			eta = "eta " + seconds(v.left)
		}
		facts = append(facts, span{size(int64(v.rate)) + "/s", plain}, span{eta, plain}, span{v.sources(), plain})
	}
	if v.givingTo > 0 {
		facts = append(facts, span{fmt.Sprintf("giving %s/s to %d", size(int64(v.up)), v.givingTo), plain})
	}
	return facts
}

// sources says how many give, and how many of them have all of it.
func (v getView) sources() string {
	n := v.full + v.part
	if v.part == 0 || n == 0 {
		return fmt.Sprintf("sources %d", n)
	}
	var parts []string
	if v.full > 0 {
		parts = append(parts, fmt.Sprintf("%d full", v.full))
	}
	return fmt.Sprintf("sources %d (%s)", n, strings.Join(append(parts, fmt.Sprintf("%d partial", v.part)), ", "))
}

// giving draws a download that is complete, while others are given of it.
func (v getView) giving(k look) []line {
	who := "nobody now"
	if v.givingTo > 0 {
		who = fmt.Sprintf("%d, %s/s", v.givingTo, size(int64(v.up)))
	}
	facts := []span{{"Giving to " + who, plain}, {size(v.given) + " in all", plain}, {"the file is complete,", dim}, {"Ctrl-C stops giving", dim}}
	return append(flow(k, "  ", facts), v.neighbourLines(k)...)
}

// neighbourLines is the table of neighbours: so many as there is room for.
func (v getView) neighbourLines(k look) []line {
	if !v.table || len(v.neighbours) == 0 {
		return nil
	}
	rows := make([][]span, 0, len(v.neighbours))
	for _, n := range v.neighbours {
		as := dim
		if n.gives {
			as = plain
		}
		rows = append(rows, []span{
			{n.addr, as},
			{n.id, as},
			{perSecond(k, n.down), as},
			{perSecond(k, n.up), as},
			{fmt.Sprintf("%d%%", n.has), as},
			{fmt.Sprintf("%d%%", n.got), as},
			{roundTrip(k, n.rtt), as},
		})
	}
	room := max(k.height-6, 1)
	more := len(rows) - room
	if more > 0 {
		rows = rows[:room]
	}
	head, body := table(k, []column{
		{title: "peer", cells: 16, takes: true, most: 40},
		{title: "id", cells: 10, rank: 4},
		{title: "down", cells: 11, right: true},
		{title: "up", cells: 11, right: true, rank: 1},
		{title: "has", cells: 4, right: true, rank: 2},
		{title: "got", cells: 4, right: true, rank: 2},
		{title: "rtt", cells: 6, right: true, rank: 3},
	}, rows, -1)
	out := append([]line{{}, head}, body...)
	if more > 0 {
		out = append(out, line{{fmt.Sprintf("  %s %d more", k.sign("…", "..."), more), dim}})
	}
	return out
}

func perSecond(k look, rate float64) string {
	if rate < 1 {
		return k.sign("—", "-")
	}
	return size(int64(rate)) + "/s"
}

func roundTrip(k look, d time.Duration) string {
	switch {
	case d <= 0:
		return k.sign("—", "-")
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(d)/1e6)
	}
	return fmt.Sprintf("%dms", d.Milliseconds())
}

// waited is how long something has lasted.
func waited(d time.Duration) string {
	s := int(d / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	}
	return fmt.Sprintf("%d h %d min", s/3600, s/60%60)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// ofSize writes a part and the whole, the unit once where it is the same.
func ofSize(part, whole int64) string {
	a, b := size(part), size(whole)
	if num, unit, _ := strings.Cut(a, " "); strings.HasSuffix(b, " "+unit) {
		a = num
	}
	return a + " / " + b
}

// sampler makes views of what a download says of itself.
type sampler struct {
	phase    node.Phase
	since    time.Time // in that phase
	received int64
	moved    time.Time // when something came last
	down, up meter
	guess    guess
	each     map[string]*pairMeter
	ids      map[string]string // of neighbours, by address, where what is looked at does not say them
}

// pairMeter measures what is exchanged with one neighbour.
type pairMeter struct{ down, up meter }

// view is a download at a time. Have is which of its pieces are here, nil if that is not known.
func (s *sampler) view(now time.Time, st node.FetchStatus, at strip) getView {
	p := st.Exchange
	if st.Phase != s.phase || s.since.IsZero() {
		s.phase, s.since, s.moved = st.Phase, now, now
	}
	if p.Received != s.received {
		s.received, s.moved = p.Received, now
	}
	s.down.add(now, p.Received)
	s.up.add(now, p.Sent)
	v := getView{
		name: st.Name, phase: st.Phase, size: st.Size, done: min(p.Done+p.Arriving, st.Size), checked: st.Checked, rate: s.down.rate(), up: s.up.rate(),
		strip: at, peers: len(p.Neighbours), given: p.Sent, diskFull: p.Paused, still: now.Sub(s.moved), inPhase: now.Sub(s.since),
	}
	if st.Directory {
		v.name += "/"
	}
	s.guess.add(now, st.Size-v.done, v.rate)
	if !p.Paused {
		v.left = s.guess.left(now)
	}
	s.neighbours(now, st, &v)
	return v
}

// neighbours adds who gives, and who is given.
func (s *sampler) neighbours(now time.Time, st node.FetchStatus, v *getView) {
	pieces := uint32(1)
	if g, err := content.GeometryOf(st.Size); err == nil && g.Pieces > 0 {
		pieces = g.Pieces
	}
	each := make(map[string]*pairMeter, len(st.Exchange.Neighbours))
	for _, n := range st.Exchange.Neighbours {
		key := n.Name + " " + string(n.Peer[:])
		m := s.each[key]
		if m == nil {
			m = &pairMeter{}
		}
		each[key] = m
		m.down.add(now, n.Received)
		m.up.add(now, n.Sent)
		row := neighbourView{
			addr: n.Name, down: m.down.rate(), up: m.up.rate(), has: int(roundPercent(int(min(n.Pieces, pieces)), int(pieces))),
			got: int(percentage(n.Received, max(st.Size, 1))), moved: n.Received + n.Sent, rtt: n.RTT, gives: n.Active > 0 || m.down.rate() >= 1,
		}
		switch {
		case n.Peer != wire.PeerID{}:
			row.id = identity.PeerShort(n.Peer)
		case s.ids != nil:
			row.id = s.ids[n.Name]
		}
		v.add(row)
	}
	s.each = each
	slices.SortFunc(v.neighbours, func(a, b neighbourView) int { // by what does not change back and forth
		return cmp.Or(cmp.Compare(b.moved, a.moved), strings.Compare(a.addr, b.addr))
	})
}

func (v *getView) add(n neighbourView) {
	v.neighbours = append(v.neighbours, n)
	switch {
	case n.gives && n.has == 100:
		v.full++
	case n.gives:
		v.part++
	}
	if n.up >= 1 {
		v.givingTo++
	}
}

// partsOf is what of a content is here, as an exchange says it.
func partsOf(have []bool, p exchange.Progress) strip { return stripOf(have, p.Under) }
