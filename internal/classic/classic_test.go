package classic

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
)

// vector is one block of a file in testdata.
type vector struct {
	bytes []byte
	want  string
}

// vectors reads a file of testdata, whose head says how it is written.
func vectors(t testing.TB, file string) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	for block := range strings.SplitSeq(string(text), "\n\n") {
		lines := strings.Split(strings.TrimSpace(block), "\n")
		if strings.HasPrefix(lines[0], "#") {
			continue
		}
		if len(lines) != 2 {
			t.Fatalf("%s: a block of %d lines: %q", file, len(lines), block)
		}
		all = append(all, vector{unhex(t, lines[0]), lines[1]})
	}
	return all
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	var out []byte
	for word := range strings.FieldsSeq(s) {
		digits, times, repeated := strings.Cut(word, "*")
		n := 1
		if repeated {
			n, _ = strconv.Atoi(times)
		}
		b, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, bytes.Repeat(b, n)...)
	}
	return out
}

// say writes what a parser returned in the words of the files in testdata.
func say(m any, err error) string {
	if err != nil {
		kind, _, _ := strings.Cut(err.Error(), ":")
		return "error " + kind
	}
	switch m := m.(type) {
	case Member:
		return fmt.Sprintf("%v %v", m.Mode, m.Addr)
	case FileRequest:
		return fmt.Sprintf("file request %q", m.Name)
	case FileResponse:
		return fmt.Sprintf("file response %q %d", m.Name, m.Chunks)
	case ChunkRequest:
		return fmt.Sprintf("chunk request %q %d %d", m.Name, m.First, m.Last)
	case ChunkResponse:
		return fmt.Sprintf("chunk response %q %d %d", m.Name, m.Index, m.Size)
	}
	return fmt.Sprintf("%#v", m)
}

func TestMemberVectors(t *testing.T) {
	for _, v := range vectors(t, "member.txt") {
		m, err := ParseMember(v.bytes)
		if got := say(m, err); got != v.want {
			t.Errorf("%x: got %q, want %q", v.bytes, got, v.want)
		}
		if err == nil && !bytes.Equal(m.Append(nil), v.bytes) {
			t.Errorf("%s: written as %x, want %x", v.want, m.Append(nil), v.bytes)
		}
	}
}

func TestHeaderVectors(t *testing.T) {
	for _, v := range vectors(t, "header.txt") {
		m, err := ParseHeader(v.bytes)
		if got := say(m, err); got != v.want {
			t.Errorf("%x: got %q, want %q", v.bytes, got, v.want)
		}
		if err == nil && !bytes.Equal(m.Append([]byte("before"))[6:], v.bytes) {
			t.Errorf("%s: written as %x, want %x", v.want, m.Append(nil), v.bytes)
		}
	}
}

func TestEveryProperPrefixIsRefused(t *testing.T) {
	for _, v := range vectors(t, "member.txt") {
		for n := range min(len(v.bytes), MemberSize) {
			if m, err := ParseMember(v.bytes[:n]); err == nil {
				t.Errorf("%d bytes of %x parsed as %v", n, v.bytes, m)
			}
		}
	}
	for _, v := range vectors(t, "header.txt") {
		for n := range min(len(v.bytes), HeaderSize) {
			if m, err := ParseHeader(v.bytes[:n]); err == nil {
				t.Errorf("%d bytes of %x parsed as %v", n, v.bytes, m)
			}
		}
	}
}

func TestNumbersThatAMessageDoesNotUseAreIgnored(t *testing.T) {
	b := FileRequest{Name: "a.img"}.Append(nil)
	for i := offChunks; i < HeaderSize; i++ {
		b[i] = 0xff
	}
	if got := say(ParseHeader(b)); got != `file request "a.img"` {
		t.Errorf("got %s", got)
	}
}

func TestChunksAndSizeAreInverse(t *testing.T) {
	for _, c := range []struct {
		size         int64
		chunks, last uint32
		fails        bool
	}{
		{size: 0},
		{size: 1, chunks: 1, last: 1},
		{size: ChunkSize - 1, chunks: 1, last: ChunkSize - 1},
		{size: ChunkSize, chunks: 1, last: ChunkSize},
		{size: ChunkSize + 1, chunks: 2, last: 1},
		{size: 200_000_003, chunks: 7, last: 8_000_003},
		{size: MaxChunks * ChunkSize, chunks: MaxChunks, last: ChunkSize},
		{size: MaxChunks*ChunkSize + 1, fails: true},
		{size: 1<<63 - 1, fails: true},
		{size: -1, fails: true},
	} {
		chunks, last, err := Chunks(c.size)
		if chunks != c.chunks || last != c.last || (err != nil) != c.fails {
			t.Errorf("Chunks(%d) = %d, %d, %v; want %d, %d", c.size, chunks, last, err, c.chunks, c.last)
		}
		if back := FileSize(chunks, last); err == nil && back != c.size {
			t.Errorf("FileSize(%d, %d) = %d, want %d", chunks, last, back, c.size)
		}
	}
}

// Of all pairs, drawn by chance and at the borders, those are taken which the standard library and the registry of special addresses allow.
func TestWhereAPeerCanListen(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(near []uint32) uint32 {
		if r.IntN(2) == 0 {
			return near[r.IntN(len(near))] + uint32(r.IntN(5)) - 2
		}
		return r.Uint32()
	}
	taken := 0
	for range 200_000 {
		var ip [4]byte
		binary.BigEndian.PutUint32(ip[:], pick([]uint32{0, 0x01000000, 0x7f000001, 0xa9fe0000, 0xe0000000, 0xf0000000, 0xffffffff}))
		port := uint16(pick([]uint32{0, 1, 0xffff}))
		want := port != 0 && ip[0] != 0 && ip[0] < 224
		m, err := ParseMember(append(append([]byte{1}, ip[:]...), byte(port>>8), byte(port)))
		if (err == nil) != want || err != nil && !errors.Is(err, ErrAddress) {
			t.Fatalf("%v: %v", m, err)
		}
		if err == nil {
			taken++
		}
	}
	if taken < 50_000 || taken > 190_000 {
		t.Fatalf("%d of 200,000 were taken: the draw is no test", taken)
	}
}

func FuzzParseMember(f *testing.F) {
	for _, v := range vectors(f, "member.txt") {
		f.Add(v.bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMember(b)
		if err == nil && !bytes.Equal(m.Append(nil), b) {
			t.Fatalf("%x parsed as %v, which is written as %x", b, m, m.Append(nil))
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	for _, v := range vectors(f, "header.txt") {
		f.Add(v.bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseHeader(b)
		if err != nil {
			return
		}
		// Numbers that a message does not use are lost, and only those: what is written parses to the same value.
		again, err := ParseHeader(m.Append(nil))
		if err != nil || again != m {
			t.Fatalf("%x parsed as %#v, written and parsed again as %#v, %v", b, m, again, err)
		}
		if out := m.Append(nil); !bytes.Equal(out[:offChunks], b[:offChunks]) {
			t.Fatalf("%#v: type and name written as %x, were %x", m, out[:offChunks], b[:offChunks])
		}
	})
}
