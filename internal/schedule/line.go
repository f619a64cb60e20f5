package schedule

// line is pieces in an order, from which any can be taken, and which any can join at its head, in the same time however many there are.
type line struct {
	next, prev []uint32 // by piece, in a ring with one more that is none; who is its own next is not in it
	n          int
}

// newLine returns a line of all pieces, in an order of which the last stands at the head.
func newLine(order []int) *line {
	l := &line{next: make([]uint32, len(order)+1), prev: make([]uint32, len(order)+1)}
	for i := range l.next {
		l.next[i], l.prev[i] = uint32(i), uint32(i)
	}
	for _, p := range order {
		l.push(uint32(p))
	}
	return l
}

func (l *line) none() uint32          { return uint32(len(l.next) - 1) }
func (l *line) has(piece uint32) bool { return piece < l.none() && l.next[piece] != piece }

// push puts a piece at the head that is not in the line.
func (l *line) push(piece uint32) {
	none := l.none()
	first := l.next[none]
	l.next[none], l.prev[piece], l.next[piece], l.prev[first] = piece, none, first, piece
	l.n++
}

// remove takes a piece out of the line, if it is in it.
func (l *line) remove(piece uint32) {
	if !l.has(piece) {
		return
	}
	before, after := l.prev[piece], l.next[piece]
	l.next[before], l.prev[after] = after, before
	l.next[piece], l.prev[piece] = piece, piece
	l.n--
}

// all goes through the pieces from the head on. The one at hand may be removed.
func (l *line) all(do func(piece uint32) bool) {
	for p := l.next[l.none()]; p != l.none(); {
		next := l.next[p]
		if !do(p) {
			return
		}
		p = next
	}
}
