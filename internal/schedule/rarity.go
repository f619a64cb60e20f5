package schedule

import "math/rand/v2"

// pieceSet is a set of small numbers.
type pieceSet []uint64

func newPieceSet(n uint32) pieceSet  { return make(pieceSet, (n+63)/64) }
func (b pieceSet) has(i uint32) bool { return int(i/64) < len(b) && b[i/64]&(1<<(i%64)) != 0 }
func (b pieceSet) set(i uint32)      { b[i/64] |= 1 << (i % 64) }
func (b pieceSet) clear(i uint32)    { b[i/64] &^= 1 << (i % 64) }

// rarity keeps pieces in the order of how many neighbours have them, the rarest first, in chance order among equals. Each
// change costs a few steps, however many pieces there are.
type rarity struct {
	rand  *rand.Rand
	order []uint32 // the pieces that are in it
	pos   []int32  // of each piece in order; -1: it is not in it
	level []uint16 // how many neighbours have each piece, those that have all not counted
	start []int    // where the pieces of each level begin in order; one more entry than levels: len(order)
}

func newRarity(pieces uint32, r *rand.Rand) *rarity {
	q := &rarity{rand: r, pos: make([]int32, pieces), level: make([]uint16, pieces), start: []int{0, 0}}
	for i := range q.pos {
		q.pos[i] = -1
	}
	return q
}

func (q *rarity) put(at int, piece uint32) {
	q.order[at] = piece
	q.pos[piece] = int32(at)
}

func (q *rarity) swap(a, b int) {
	x, y := q.order[a], q.order[b]
	q.put(a, y)
	q.put(b, x)
}

// grow makes sure that there is a level.
func (q *rarity) grow(level int) {
	for len(q.start) < level+2 {
		q.start = append(q.start, len(q.order))
	}
}

// mix swaps the piece at a place with a random one of its level.
func (q *rarity) mix(at, level int) {
	from, to := q.start[level], q.start[level+1]
	q.swap(at, from+q.rand.IntN(to-from))
}

// add puts a piece into the order.
func (q *rarity) add(piece uint32) {
	level := int(q.level[piece])
	q.grow(level)
	q.order = append(q.order, piece)
	hole := len(q.order) - 1
	q.start[len(q.start)-1]++
	for l := len(q.start) - 2; l > level; l-- { // the first of each higher level becomes its last
		if q.start[l] != hole { // else the level is empty
			q.put(hole, q.order[q.start[l]])
		}
		hole = q.start[l]
		q.start[l]++
	}
	q.put(hole, piece)
	q.mix(hole, level)
}

// remove takes a piece out.
func (q *rarity) remove(piece uint32) {
	if q.pos[piece] < 0 {
		return
	}
	level := int(q.level[piece])
	hole := int(q.pos[piece])
	for l := level; l < len(q.start)-1; l++ { // the last of each level fills the hole, and leaves one at the next's begin
		last := q.start[l+1] - 1
		if last != hole { // else the level is empty, or the piece is its last
			q.put(hole, q.order[last])
		}
		hole = last
		q.start[l+1]--
	}
	q.order = q.order[:len(q.order)-1]
	q.pos[piece] = -1
}

// change moves a piece by one level: it trades places with the piece at the border, and the border moves.
func (q *rarity) change(piece uint32, up bool) {
	level := int(q.level[piece])
	at := q.pos[piece]
	if up {
		q.level[piece]++
		if at < 0 {
			return
		}
		q.grow(level + 1)
		q.start[level+1]--
		q.swap(int(at), q.start[level+1])
		q.mix(q.start[level+1], level+1)
		return
	}
	q.level[piece]--
	if at < 0 {
		return
	}
	at = int32(q.start[level])
	q.swap(int(q.pos[piece]), int(at))
	q.start[level]++
	q.mix(int(at), level-1)
}
