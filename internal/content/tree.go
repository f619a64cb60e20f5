package content

import (
	"encoding/binary"
	"math/bits"

	"lukechampine.com/blake3/guts"
)

// CV is the chaining value of a subtree: 32 bytes that stand for all bytes below it.
type CV [32]byte

func cvOf(words [8]uint32) (cv CV) {
	for i, w := range words {
		binary.LittleEndian.PutUint32(cv[4*i:], w)
	}
	return cv
}

func (cv *CV) words() (w [8]uint32) {
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(cv[4*i:])
	}
	return w
}

// groupSize is what guts compresses at a time: 16 leaves side by side.
const groupSize = guts.MaxSIMD * guts.ChunkSize

// subtree hashes an aligned part of a content whose length is known, as its bytes come. It needs no more than a group of
// them at a time. The algorithm is that of section 5.1.2 of the BLAKE3 paper, with groups of leaves in the place of leaves.
type subtree struct {
	counter uint64 // of the next group's first leaf
	left    int64  // bytes that are still to come
	groups  uint64 // that are in the stack
	depth   int    // of the stack
	stack   [32][8]uint32
	last    guts.Node // the last group, when left is 0
	n       int       // bytes in buf
	buf     [groupSize]byte
}

func (s *subtree) reset(counter uint64, length int64) {
	s.counter, s.left, s.groups, s.depth, s.n = counter, length, 0, 0, 0
}

// write takes the next bytes. Those beyond the length count as an error, for which it returns false.
func (s *subtree) write(p []byte) bool {
	for len(p) > 0 {
		if int64(len(p)) > s.left {
			return false
		}
		if s.n == 0 && len(p) >= groupSize {
			s.left -= groupSize
			s.group((*[groupSize]byte)(p), groupSize)
			p = p[groupSize:]
			continue
		}
		n := copy(s.buf[s.n:], p)
		s.n += n
		s.left -= int64(n)
		p = p[n:]
		if s.n == groupSize || s.left == 0 {
			s.group(&s.buf, s.n)
			s.n = 0
		}
	}
	return true
}

// group compresses a group. The last one is kept unfinished, since it may be the root.
func (s *subtree) group(b *[groupSize]byte, n int) {
	node := guts.CompressBuffer(b, n, &guts.IV, s.counter, 0)
	s.counter += guts.MaxSIMD
	if s.left == 0 {
		s.last = node
		return
	}
	cv := guts.ChainingValue(node)
	s.groups++
	for range bits.TrailingZeros64(s.groups) {
		s.depth--
		cv = guts.ChainingValue(guts.ParentNode(s.stack[s.depth], cv, &guts.IV, 0))
	}
	s.stack[s.depth] = cv
	s.depth++
}

// value returns the chaining value when all bytes have come.
func (s *subtree) value(root bool) CV {
	node := s.last
	for i := s.depth - 1; i >= 0; i-- {
		node = guts.ParentNode(s.stack[i], guts.ChainingValue(node), &guts.IV, 0)
	}
	return finish(node, root)
}

func finish(node guts.Node, root bool) CV {
	if root {
		node.Flags |= guts.FlagRoot
	}
	return cvOf(guts.ChainingValue(node))
}

func parent(left, right CV, root bool) CV {
	return finish(guts.ParentNode(left.words(), right.words(), &guts.IV, 0), root)
}

// fold combines the values of pieces to the root.
func fold(cvs []CV, root bool) CV {
	if len(cvs) == 1 {
		return cvs[0]
	}
	mid := leftOf(uint64(len(cvs)))
	return parent(fold(cvs[:mid], false), fold(cvs[mid:], false), root)
}

// PieceHash hashes one piece as its bytes come. It is large: keep it, and reset it. The zero PieceHash must be reset.
type PieceHash struct {
	tree  subtree
	only  bool
	extra bool // more bytes came than the piece has
}

// Reset begins a piece.
func (h *PieceHash) Reset(g Geometry, piece uint32) {
	h.tree.reset(uint64(g.Offset(piece)/LeafSize), g.Len(piece))
	h.only, h.extra = g.Pieces == 1, false
}

// Write takes the next bytes of the piece. It never fails.
func (h *PieceHash) Write(p []byte) (int, error) {
	if !h.extra && !h.tree.write(p) {
		h.extra = true
	}
	return len(p), nil
}

// Sum returns the piece's chaining value; ok is false if its bytes were too few or too many.
func (h *PieceHash) Sum() (cv CV, ok bool) {
	if h.extra || h.tree.left > 0 {
		return cv, false
	}
	return h.tree.value(h.only), true
}
