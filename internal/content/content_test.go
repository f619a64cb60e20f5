package content

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/zeebo/blake3"
)

func bytesOf(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(b)
	return b
}

// manifestOf hashes as a reader of the definition would: piece by piece.
func manifestOf(t testing.TB, b []byte) *Manifest {
	t.Helper()
	g, err := GeometryOf(int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	cvs := make([]CV, g.Pieces)
	var h PieceHash
	for i := range cvs {
		h.Reset(g, uint32(i))
		h.Write(b[g.Offset(uint32(i)):][:g.Len(uint32(i))])
		cv, ok := h.Sum()
		if !ok {
			t.Fatal("no sum")
		}
		cvs[i] = cv
	}
	var last []byte
	if g.Pieces > 0 {
		last = b[g.Offset(g.Pieces-1):]
	}
	return NewManifest(g, cvs, last)
}

func TestAnIDIsThePlainHash(t *testing.T) {
	sizes := []int{0, 1, 63, 64, 65, 1023, 1024, 1025, 16383, 16384, 16385, 10<<20 + 17}
	for p := 1; p <= 5; p++ {
		for _, d := range []int{-1025, -1024, -1, 0, 1, 1023, 1024, 1025} {
			sizes = append(sizes, p*MinPiece+d)
		}
	}
	sizes = append(sizes, 64<<20-1, 64<<20, 64<<20+1)
	for _, n := range sizes {
		b := bytesOf(n)
		m := manifestOf(t, b)
		if want := ID(blake3.Sum256(b)); m.ID != want {
			t.Errorf("%d bytes: got %v, want %v", n, m.ID, want)
		}
		enc := m.Append(nil)
		if len(enc) != ManifestLen(m.Geo) {
			t.Errorf("%d bytes: the manifest has %d bytes, not %d", n, len(enc), ManifestLen(m.Geo))
		}
		back, err := ParseManifest(m.ID, enc)
		if err != nil {
			t.Errorf("%d bytes: %v", n, err)
		} else if !bytes.Equal(back.Append(nil), enc) {
			t.Errorf("%d bytes: the manifest changed", n)
		}
	}
}

func TestAManifestProvesItsSizeAndItsPieces(t *testing.T) {
	for _, n := range []int{1, 1024, 1025, MinPiece, MinPiece + 1, 3*MinPiece + 5000} {
		b := bytesOf(n)
		m := manifestOf(t, b)
		enc := m.Append(nil)
		for bit := range 8 * len(enc) {
			if bit > 8*200 && bit%97 != 0 {
				continue
			}
			bad := bytes.Clone(enc)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := ParseManifest(m.ID, bad); err == nil {
				t.Fatalf("%d bytes: bit %d changed, and it is believed", n, bit)
			}
		}
		// Another size with the same number of pieces, and a last leaf to fit: the values alone would pass.
		for _, size := range []int{n - 1, n + 1, n - 1024, n + 1024} {
			g, err := GeometryOf(int64(size))
			if err != nil || size < 1 || g.Pieces != m.Geo.Pieces {
				continue
			}
			forged := &Manifest{ID: m.ID, Geo: g, CVs: m.CVs, proof: new(proof)}
			_, tail := g.tail()
			forged.proof.leaf = make([]byte, tail)
			leaves, _ := g.tail()
			forged.proof.left = make([]CV, spine(leaves))
			copy(forged.proof.leaf, m.proof.leaf)
			copy(forged.proof.left, m.proof.left)
			if _, err := ParseManifest(m.ID, forged.Append(nil)); err == nil {
				t.Errorf("%d bytes: a size of %d is believed", n, size)
			}
		}
	}
}

func TestAPieceHasEightPartsOfNotLessThan16KiB(t *testing.T) {
	for size, want := range map[int64][2]int64{64 << 20: {64 << 10, 16 << 10}, 64<<20 + 1: {128 << 10, 16 << 10}, 200 << 20: {256 << 10, 32 << 10}, 4 << 30: {4 << 20, 512 << 10}, MaxSize: {64 << 20, 8 << 20}} {
		if g, _ := GeometryOf(size); g.Piece != want[0] || g.Part() != want[1] {
			t.Errorf("%d bytes: pieces of %d, parts of %d, want %v", size, g.Piece, g.Part(), want)
		}
	}
}

func TestThePartsOfAPieceProveThemselves(t *testing.T) {
	for _, n := range []int{1, minPart, minPart + 1, MinPiece, MinPiece + 1, 3*MinPiece + 5000, 64<<20 + 9*minPart + 77} {
		b := bytesOf(n)
		m := manifestOf(t, b)
		for _, piece := range []uint32{0, m.Geo.Pieces - 1} {
			var h PieceHash
			h.Reset(m.Geo, piece)
			all := b[m.Geo.Offset(piece):][:m.Geo.Len(piece)]
			for at := 0; at < len(all); at += 5000 {
				if whole, want := len(h.Parts()), at/int(m.Geo.Part()); whole != want {
					t.Fatalf("%d bytes: %d parts after %d of %d", n, whole, at, len(all))
				}
				h.Write(all[at:min(at+5000, len(all))])
			}
			parts := slices.Clone(h.Parts())
			if len(parts) != m.Geo.Parts(piece) || len(parts) > MaxParts || !m.Proves(piece, parts) {
				t.Fatalf("%d bytes: %d parts of piece %d prove nothing", n, len(parts), piece)
			}
			for i := range parts {
				bad := slices.Clone(parts)
				bad[i][7] ^= 1
				if m.Proves(piece, bad) || m.Proves(piece, parts[:i]) || m.Proves(piece, append(slices.Clone(parts), parts[i])) {
					t.Errorf("%d bytes: wrong parts of piece %d are believed", n, piece)
				}
			}
			h.Write([]byte{1})
			if _, ok := h.Sum(); ok {
				t.Errorf("%d bytes: a byte too many is none", n)
			}
		}
	}
}

func TestPrefixes(t *testing.T) {
	id := ID(blake3.Sum256([]byte("x")))
	for _, s := range []string{id.String(), id.String()[:8], id.String()[:11], id.Short()} {
		p, err := ParsePrefix(s)
		if err != nil || !p.Match(id) {
			t.Errorf("%s: %v %v", s, p, err)
		}
		other := id
		other[0] ^= 1
		if p.Match(other) {
			t.Errorf("%s matches another id", s)
		}
	}
	for _, s := range []string{"", "1234567", "123456g8", id.String() + "0", id.Short()[:25]} {
		if _, err := ParsePrefix(s); err == nil {
			t.Errorf("%q is taken for an id", s)
		}
	}
}

func TestHowPiecesFollowFromTheSize(t *testing.T) {
	for _, c := range []struct{ size, piece, pieces int64 }{
		{0, 64 << 10, 0},
		{1, 64 << 10, 1},
		{64 << 20, 64 << 10, 1024},
		{64<<20 + 1, 128 << 10, 513},
		{4 << 30, 4 << 20, 1024},
		{1 << 40, 4 << 20, 1 << 18},
		{1<<40 + 1, 8 << 20, 1<<17 + 1},
		{16 << 40, 64 << 20, 1 << 18},
	} {
		if g, err := GeometryOf(c.size); err != nil || g.Piece != c.piece || int64(g.Pieces) != c.pieces {
			t.Errorf("%d bytes: %+v, %v", c.size, g, err)
		}
	}
	for _, size := range []int64{-1, 16<<40 + 1} {
		if _, err := GeometryOf(size); err == nil {
			t.Errorf("%d bytes have a geometry", size)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	b := bytesOf(MinPiece + 3000)
	m := manifestOf(f, b)
	f.Add(m.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ParseManifest(m.ID, b)
		if err == nil && !bytes.Equal(got.Append(nil), m.Append(nil)) {
			t.Fatal("another manifest proves the same id")
		}
	})
}
