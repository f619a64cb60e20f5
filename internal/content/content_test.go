package content

import (
	"bytes"
	"math/rand/v2"
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
