package content

import (
	"encoding/binary"
	"errors"
	"fmt"

	"lukechampine.com/blake3/guts"
)

// Manifest says what a content consists of, and proves it against the content's id. It is never changed once it was made.
type Manifest struct {
	ID  ID
	Geo Geometry
	CVs []CV // of each piece; the only piece's has the root flag

	proof *proof // of the size; nil in a bare manifest
}

// proof is what proves the size.
type proof struct {
	leaf []byte // the last one
	left []CV   // its left siblings within the last piece, from the leaf upwards
}

// ErrManifest is a manifest that does not prove what it claims.
var ErrManifest = errors.New("the manifest does not prove the content's id")

// empty is the id of the empty content.
var empty = ID(finish(guts.CompressChunk(nil, &guts.IV, 0, 0), true))

// NewManifest makes the manifest of a content of which the chaining values of all pieces are known, and the bytes of the
// last piece. It takes cvs over.
func NewManifest(g Geometry, cvs []CV, last []byte) *Manifest {
	if len(cvs) != int(g.Pieces) || (g.Pieces > 0 && int64(len(last)) != g.Len(g.Pieces-1)) {
		panic("content: a manifest of too few pieces or bytes")
	}
	p := new(proof)
	m := &Manifest{ID: empty, Geo: g, CVs: cvs, proof: p}
	if g.Pieces == 0 {
		return m
	}
	m.ID = ID(fold(cvs, true))
	leaves, tail := g.tail()
	p.leaf = append([]byte(nil), last[len(last)-tail:]...)
	p.left = make([]CV, spine(leaves))
	counter := uint64(g.Offset(g.Pieces-1) / LeafSize)
	var t subtree
	for i := len(p.left) - 1; i >= 0; i-- {
		n := leftOf(leaves)
		t.reset(counter, int64(n)*LeafSize)
		t.write(last[:n*LeafSize])
		p.left[i] = t.value(false)
		last, counter, leaves = last[n*LeafSize:], counter+n, leaves-n
	}
	return m
}

// Bare returns what the manifest is of, without what proves it: enough to speak of a content, and small. It can neither be encoded nor verify.
func (m *Manifest) Bare() *Manifest {
	return &Manifest{ID: m.ID, Geo: m.Geo}
}

// IsBare says whether the manifest is a bare one.
func (m *Manifest) IsBare() bool { return m.proof == nil }

// ManifestLen returns how many bytes the encoded manifest of a content of a size has.
func ManifestLen(g Geometry) int {
	leaves, tail := g.tail()
	return 8 + 32*int(g.Pieces) + tail + 32*spine(leaves)
}

// Append appends the manifest's encoding: the size as 8 bytes, big-endian; 32 bytes for each piece; the last leaf; its left
// siblings within the last piece, 32 bytes each, from the leaf upwards. The number of each follows from the size.
func (m *Manifest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(m.Geo.Size))
	for i := range m.CVs {
		b = append(b, m.CVs[i][:]...)
	}
	b = append(b, m.proof.leaf...)
	for i := range m.proof.left {
		b = append(b, m.proof.left[i][:]...)
	}
	return b
}

// ParseManifest reads a manifest, and makes sure that it proves the id and the size.
func ParseManifest(id ID, b []byte) (*Manifest, error) {
	if len(b) < 8 {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrManifest, len(b))
	}
	size := binary.BigEndian.Uint64(b)
	if size > MaxSize {
		return nil, fmt.Errorf("%w: it claims %d bytes", ErrManifest, size)
	}
	g, err := GeometryOf(int64(size))
	if err != nil {
		return nil, err
	}
	if len(b) != ManifestLen(g) {
		return nil, fmt.Errorf("%w: it has %d bytes, for a content of %d it would have %d", ErrManifest, len(b), size, ManifestLen(g))
	}
	m := &Manifest{ID: id, Geo: g, proof: new(proof)}
	_, tail := g.tail()
	b = b[8:]
	m.CVs, b = takeCVs(b, int(g.Pieces))
	m.proof.leaf, b = append([]byte(nil), b[:tail]...), b[tail:]
	m.proof.left, _ = takeCVs(b, len(b)/32)
	switch {
	case g.Pieces == 0 && id != empty, g.Pieces > 0 && ID(fold(m.CVs, true)) != id:
		return nil, fmt.Errorf("%w: its pieces are of another content", ErrManifest)
	case g.Pieces > 0 && m.spineValue() != m.CVs[g.Pieces-1]:
		return nil, fmt.Errorf("%w: the content does not have %d bytes", ErrManifest, size)
	}
	return m, nil
}

func takeCVs(b []byte, n int) (cvs []CV, rest []byte) {
	cvs = make([]CV, n)
	for i := range cvs {
		cvs[i] = CV(b[32*i:])
	}
	return cvs, b[32*n:]
}

// spineValue returns the chaining value of the last piece as the last leaf and its siblings prove it. The leaf's counter
// goes into it, so that no other leaf, and hence no other size, leads to the same value.
func (m *Manifest) spineValue() CV {
	only := m.Geo.Pieces == 1
	counter := uint64((m.Geo.Size - 1) / LeafSize)
	cv := finish(guts.CompressChunk(m.proof.leaf, &guts.IV, counter, 0), only && len(m.proof.left) == 0)
	for i, sibling := range m.proof.left {
		cv = parent(sibling, cv, only && i == len(m.proof.left)-1)
	}
	return cv
}

// Verify says whether a piece's bytes have given the value that the manifest has for it.
func (m *Manifest) Verify(piece uint32, h *PieceHash) bool {
	cv, ok := h.Sum()
	return ok && cv == m.CVs[piece]
}

// Proves says whether these are the chaining values of a piece's parts.
func (m *Manifest) Proves(piece uint32, parts []CV) bool {
	return len(parts) == m.Geo.Parts(piece) && fold(parts, m.Geo.Pieces == 1) == m.CVs[piece]
}
