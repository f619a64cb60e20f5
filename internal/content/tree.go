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

// write takes the next bytes, of which there are no more than are left.
func (s *subtree) write(p []byte) {
	for len(p) > 0 {
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

// fold combines the values of pieces to the root, or those of a piece's parts to the piece's.
func fold(cvs []CV, root bool) CV {
	if len(cvs) == 1 {
		return cvs[0]
	}
	mid := leftOf(uint64(len(cvs)))
	return parent(fold(cvs[:mid], false), fold(cvs[mid:], false), root)
}

// PieceHash hashes one piece as its bytes come, part by part. It is large: keep it, and reset it. The zero PieceHash must be reset.
type PieceHash struct {
	tree  subtree // of the part that comes
	size  int64   // of each part but the last
	rest  int64   // bytes of the parts behind that one
	next  uint64  // the first leaf of these
	parts []CV    // those that are whole
	alone bool    // the piece is the only one of its content
	one   bool    // and has one part
	extra bool    // more bytes came than the piece has
}

// Reset begins a piece.
func (h *PieceHash) Reset(g Geometry, piece uint32) {
	h.size, h.rest, h.next, h.parts = g.Part(), g.Len(piece), uint64(g.Offset(piece)/LeafSize), h.parts[:0]
	h.alone, h.extra = g.Pieces == 1, false
	h.one = h.alone && h.rest <= h.size
	h.begin()
}

// begin begins a part.
func (h *PieceHash) begin() {
	n := min(h.size, h.rest)
	h.tree.reset(h.next, n)
	h.rest -= n
	h.next += uint64(n / LeafSize)
}

// Write takes the next bytes of the piece. It never fails.
func (h *PieceHash) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && !h.extra {
		k := min(int64(len(p)), h.tree.left)
		if k == 0 {
			h.extra = true
			break
		}
		h.tree.write(p[:k])
		p = p[k:]
		if h.tree.left == 0 {
			h.parts = append(h.parts, h.tree.value(h.one))
			if h.rest > 0 {
				h.begin()
			}
		}
	}
	return n, nil
}

// Parts returns the chaining values of the parts that have come. They are valid until the next call of Reset.
func (h *PieceHash) Parts() []CV { return h.parts }

// Sum returns the piece's chaining value; ok is false if its bytes were too few or too many.
func (h *PieceHash) Sum() (cv CV, ok bool) {
	if h.extra || h.rest > 0 || h.tree.left > 0 {
		return cv, false
	}
	return fold(h.parts, h.alone), true
}
