package content

import (
	"errors"
	"fmt"
	"math/bits"
)

const (
	// MaxSize is the largest content, in bytes.
	MaxSize = 16 << 40
	// MaxPieces is the most pieces that a content has.
	MaxPieces = 1 << 18
	// MinPiece is the smallest piece size, in bytes.
	MinPiece = 64 << 10
	// stdPiece is the largest piece size of contents up to 1 TiB.
	stdPiece = 4 << 20
	// MaxParts is the most parts that a piece has.
	MaxParts = 8
	// minPart is the smallest part, in bytes, but for a piece's last one.
	minPart = 16 << 10
	// LeafSize is BLAKE3's own unit, in bytes: it calls it a chunk.
	LeafSize = 1024
)

// ErrSize is a size that no content has.
var ErrSize = errors.New("no content has that size")

// Geometry says how a content is divided into pieces. It follows from the size alone. Piece is a power of two.
type Geometry struct {
	Size   int64  // bytes of the content
	Piece  int64  // bytes of each piece but the last
	Pieces uint32 // how many there are: none in an empty content
}

// GeometryOf returns the geometry of a content of a size: pieces of the smallest power of two that makes at most 1,024 of
// them, but not below 64 KiB nor above 4 MiB, and above 1 TiB the smallest that makes at most 262,144.
func GeometryOf(size int64) (Geometry, error) {
	if size < 0 || size > MaxSize {
		return Geometry{}, fmt.Errorf("%w: %d bytes", ErrSize, size)
	}
	piece := int64(MinPiece)
	for piece < stdPiece && piece*1024 < size {
		piece *= 2
	}
	for piece*MaxPieces < size {
		piece *= 2
	}
	return Geometry{Size: size, Piece: piece, Pieces: uint32((size + piece - 1) / piece)}, nil
}

// Len returns how many bytes a piece has.
func (g Geometry) Len(piece uint32) int64 { return min(g.Piece, g.Size-g.Offset(piece)) }

// Offset returns where a piece begins.
func (g Geometry) Offset(piece uint32) int64 { return int64(piece) * g.Piece }

// Part returns how many bytes each part of a piece has but the last: an eighth of a piece, and not less than 16 KiB. A part is what is
// verified of a piece before all of it is there.
func (g Geometry) Part() int64 { return max(g.Piece/MaxParts, minPart) }

// Parts returns how many parts a piece has.
func (g Geometry) Parts(piece uint32) int { return int((g.Len(piece) + g.Part() - 1) / g.Part()) }

// tail returns how many leaves the last piece has, and how many bytes the last of them; both 0 in an empty content.
func (g Geometry) tail() (leaves uint64, last int) {
	if g.Pieces == 0 {
		return 0, 0
	}
	n := g.Len(g.Pieces - 1)
	leaves = uint64((n + LeafSize - 1) / LeafSize)
	return leaves, int(n - int64(leaves-1)*LeafSize)
}

// leftOf returns how many of n leaves, at least 2, are in the left half of their tree: the largest power of two below n.
func leftOf(n uint64) uint64 { return 1 << (bits.Len64(n-1) - 1) }

// spine returns how many left siblings there are on the way from the root of a tree of n leaves to its last leaf.
func spine(n uint64) (siblings int) {
	for ; n > 1; n -= leftOf(n) {
		siblings++
	}
	return siblings
}
