package bundle

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"shoal/internal/content"
)

// build makes a listing, and fails on what cannot be.
func build(t testing.TB, steps func(b *Builder) error) *Listing {
	t.Helper()
	b := NewBuilder(0o755)
	if err := steps(b); err != nil {
		t.Fatal(err)
	}
	l, err := b.Listing()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func some(b *Builder) error {
	return errors.Join(
		b.File("a b", 0o755, 3), b.Dir("empty", 0o755), b.Up(), b.File("new\nline", 0o644, 0), b.Dir("sub", 0o700),
		b.File(".hidden", 0o600, 300), b.Dir("deep", 0o755), b.File("m", 0o444, 1<<40), b.Link("up", "../../a b"), b.Up(), b.Up(),
		b.File("\xff\xfe", 0o400, 1),
	)
}

const goldenFile = "testdata/listings.txt"

// The examples of the format: a name, and the bytes of a listing.
func TestAListingHasItsBytes(t *testing.T) {
	examples := map[string]*Listing{
		"empty": build(t, func(*Builder) error { return nil }),
		"file":  build(t, func(b *Builder) error { return b.File("f", 0o644, 5) }),
		"some":  build(t, some),
	}
	names := []string{"empty", "file", "some"}
	if os.Getenv("SHOAL_WRITE_GOLDEN") != "" {
		out := "# A listing a line: its name and its bytes in hex. Each must parse, and encode to the same bytes.\n"
		for _, name := range names {
			out += name + " " + hex.EncodeToString(examples[name].Append(nil)) + "\n"
		}
		if err := os.WriteFile(goldenFile, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		l := examples[name]
		got := l.Append(nil)
		if !bytes.Contains(golden, []byte(name+" "+hex.EncodeToString(got)+"\n")) {
			t.Errorf("%s: %x is not in %s", name, got, goldenFile)
		}
		if !bytes.Contains(doc, []byte(hex.EncodeToString(got))) {
			t.Errorf("%s: %x is not in docs/PROTOCOL.md", name, got)
		}
		back, err := Parse(got, l.Size)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !slices.Equal(back.Entries, l.Entries) || back.Perm != l.Perm || back.Head != int64(len(got)) || back.Size != l.Size {
			t.Errorf("%s: got %+v, want %+v", name, back, l)
		}
		for n := range got {
			if _, err := Parse(got[:n], l.Size); err == nil {
				t.Errorf("%s: %d bytes of it are a listing", name, n)
			}
		}
	}
}

// Whatever parses has no other encoding: a tree has one listing.
func canonical(t *testing.T, b []byte, size int64) {
	t.Helper()
	l, err := Parse(b, size)
	if err != nil {
		return
	}
	if got := l.Append(nil); !bytes.Equal(got, b) {
		t.Fatalf("%x is read as %x", b, got)
	}
	seen := make(map[string]bool)
	err = l.Each(func(i int, path string) error {
		if path != l.Path(i) || seen[path] || len(path) > MaxPath {
			t.Fatalf("entry %d is %q, and %q", i, path, l.Path(i))
		}
		seen[path] = true
		for part := range strings.SplitSeq(path, "/") {
			if CheckName(part) != nil {
				t.Fatalf("the path %q", path)
			}
		}
		if p := l.Entries[i].Parent; p >= 0 && l.Entries[p].Kind != Dir {
			t.Fatalf("%q is in what is no directory", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEachFlippedBitIsNoticedOrAnotherListing(t *testing.T) {
	l := build(t, some)
	b := l.Append(nil)
	for bit := range 8 * len(b) {
		bad := bytes.Clone(b)
		bad[bit/8] ^= 1 << (bit % 8)
		for _, size := range []int64{l.Size, l.Size + 1, l.Size - 1} {
			canonical(t, bad, size)
		}
	}
}

func TestWhatNoDirectoryHasIsRefused(t *testing.T) {
	long := strings.Repeat("x", MaxName)
	for name, steps := range map[string]func(b *Builder) error{
		"no name":             func(b *Builder) error { return b.File("", 0o644, 1) },
		"a dot":               func(b *Builder) error { return b.Dir(".", 0o755) },
		"up":                  func(b *Builder) error { return b.File("..", 0o644, 1) },
		"a path":              func(b *Builder) error { return b.File("a/b", 0o644, 1) },
		"absolute":            func(b *Builder) error { return b.File("/a", 0o644, 1) },
		"a zero byte":         func(b *Builder) error { return b.File("a\x00", 0o644, 1) },
		"a long name":         func(b *Builder) error { return b.File(long+"x", 0o644, 1) },
		"twice":               func(b *Builder) error { return errors.Join(b.File("a", 0o644, 1), b.Dir("a", 0o755)) },
		"not in order":        func(b *Builder) error { return errors.Join(b.File("b", 0o644, 1), b.File("a", 0o644, 1)) },
		"below 0":             func(b *Builder) error { return b.File("a", 0o644, -1) },
		"too large":           func(b *Builder) error { return b.File("a", 0o644, content.MaxSize+1) },
		"too large together":  func(b *Builder) error { return errors.Join(b.File("a", 0o644, content.MaxSize), b.File("b", 0o644, 1)) },
		"an end too many":     func(b *Builder) error { return b.Up() },
		"a link to the top":   func(b *Builder) error { return b.Link("a", "..") },
		"a link that is none": func(b *Builder) error { return b.Link("a", "") },
		"a link elsewhere":    func(b *Builder) error { return b.Link("a", "/etc/passwd") },
		"a path that is long": func(b *Builder) error {
			for range 17 {
				if err := b.Dir(long, 0o755); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		if steps(NewBuilder(0o755)) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	b := NewBuilder(0o755)
	if err := b.Dir("a", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Listing(); err == nil {
		t.Error("a directory that is not ended is accepted")
	}
}

// The bytes themselves: what a builder would never be asked.
func TestHostileBytes(t *testing.T) {
	head := func(n uint64) string {
		return "shoald01" + string([]byte{0, 0, 0, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)})
	}
	with := func(perm, body string) []byte { return []byte(head(uint64(18+len(body))) + perm + body) }
	for name, b := range map[string][]byte{
		"none":                  nil,
		"a file":                []byte("shoaldhello, this is no listing"),
		"of a later version":    []byte("shoald02" + head(18)[8:] + "\x01\xed"),
		"longer than it says":   append([]byte(head(18)+"\x01\xed"), 0),
		"shorter than it says":  []byte(head(19) + "\x01\xed"),
		"huge":                  []byte("shoald01\xff\xff\xff\xff\xff\xff\xff\xff\x01\xed"),
		"setuid":                with("\x01\xed", "f\x01a\x09\xed\x00"),
		"the directory's setid": with("\x05\xed", ""),
		"others may write":      with("\x01\xed", "f\x01a\x01\xb6\x00"),
		"its owner may not":     with("\x00\x6d", ""),
		"a size that is long":   with("\x01\xed", "f\x01a\x01\xa4\x80\x00"),
		"a size without end":    with("\x01\xed", "f\x01a\x01\xa4\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
		"another kind":          with("\x01\xed", "x\x01a"),
		"in a link":             with("\x01\xed", "l\x01a\x00\x01bf\x01c\x01\xa4\x00u"),
		"no end":                with("\x01\xed", "d\x01a\x01\xed"),
	} {
		if l, err := Parse(b, 1<<20); err == nil {
			t.Errorf("%s: %+v", name, l)
		}
		if l, err := Parse(b, int64(len(b))); err == nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
	if _, err := HeadLen([]byte("shoald02" + head(18)[8:])); !errors.Is(err, ErrNewer) {
		t.Errorf("of a later version: %v", err)
	}
}

func TestALinkStaysInside(t *testing.T) {
	for _, c := range []struct {
		target string
		depth  int
		inside bool
	}{
		{"a", 0, true},
		{"a/b", 0, true},
		{"./a", 0, true},
		{".", 0, true},
		{"a/", 0, true},
		{"a//b", 0, true},
		{"../a", 1, true},
		{"../../a", 2, true},
		{"./../a", 1, true},
		{"..", 1, true},
		{"...", 0, true},
		{"", 5, false},
		{"/a", 5, false},
		{"..", 0, false},
		{"../a", 0, false},
		{"../../a", 1, false},
		{"a/../b", 5, false},
		{"a/../../b", 0, false},
		{"a\x00", 0, false},
		{strings.Repeat("a/", MaxPath), 0, false},
		{"./../../a", 1, false},
	} {
		if got := Inside(c.target, c.depth); got != c.inside {
			t.Errorf("%q at depth %d: %v", c.target, c.depth, got)
		}
	}
}

func TestPermissionsAreTheSameEverywhere(t *testing.T) {
	for _, c := range []struct {
		kind      Kind
		perm, got uint16
	}{
		{File, 0o644, 0o644},
		{File, 0o664, 0o644},
		{File, 0o777, 0o755},
		{File, 0o600, 0o600},
		{File, 0o4755, 0o755},
		{File, 0, 0o400},
		{File, 0o200, 0o600},
		{Dir, 0o755, 0o755},
		{Dir, 0o2775, 0o755},
		{Dir, 0o1777, 0o755},
		{Dir, 0o500, 0o700},
		{Dir, 0, 0o700},
	} {
		if got := Perm(c.kind, c.perm); got != c.got {
			t.Errorf("%c %o: got %o, want %o", c.kind, c.perm, got, c.got)
		}
	}
}

// A directory as large as there may be is made and parsed, in memory that is in proportion.
func TestAMillionFiles(t *testing.T) {
	b := NewBuilder(0o755)
	name := []byte("file-0000000.json")
	for i := range 1_000_000 {
		if i%1000 == 0 {
			if i > 0 {
				if err := b.Up(); err != nil {
					t.Fatal(err)
				}
			}
			d := []byte("dir-0000")
			for j, n := 7, i/1000; n > 0; j, n = j-1, n/10 {
				d[j] = '0' + byte(n%10)
			}
			if err := b.Dir(string(d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for j, n := 11, i; j > 4; j, n = j-1, n/10 {
			name[j] = '0' + byte(n%10)
		}
		if err := b.File(string(name), 0o644, int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Up(); err != nil {
		t.Fatal(err)
	}
	l, err := b.Listing()
	if err != nil {
		t.Fatal(err)
	}
	enc := l.Append(nil)
	back, err := Parse(enc, l.Size)
	if err != nil || len(back.Entries) != 1_001_000 || back.Files() != 1_000_000 {
		t.Fatalf("%v", err)
	}
	last := back.Entries[len(back.Entries)-1]
	if last.Off+last.Size != l.Size || back.Path(len(back.Entries)-1) != "dir-0999/file-0999999.json" {
		t.Errorf("%+v, %s", last, back.Path(len(back.Entries)-1))
	}
}

func TestTooManyEntries(t *testing.T) {
	b := NewBuilder(0o755)
	b.l.Entries = make([]Entry, MaxEntries)
	if err := b.File("a", 0o644, 1); !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
	b = NewBuilder(0o755)
	b.l.Head = MaxListing
	if err := b.File("a", 0o644, 1); !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
}

func TestPatterns(t *testing.T) {
	l := build(t, func(b *Builder) error {
		return errors.Join(
			b.File("a.json", 0o644, 1), b.File("b.bin", 0o644, 1), b.Dir("sub", 0o755), b.File("c.json", 0o644, 1), b.Dir("deep", 0o755),
			b.File("d.bin", 0o644, 1), b.File("d.json", 0o644, 1), b.Up(), b.Up(), b.Dir("void", 0o755), b.Up(), b.Link("z", "a.json"),
		)
	})
	for _, c := range []struct {
		only, except []string
		want         string
	}{
		{nil, nil, "a.json b.bin sub sub/c.json sub/deep sub/deep/d.bin sub/deep/d.json void z"},
		{[]string{"*.json"}, nil, "a.json sub sub/c.json sub/deep sub/deep/d.json"},
		{[]string{"/*.json"}, nil, "a.json"},
		{[]string{"sub/*.json"}, nil, "sub sub/c.json"},
		{[]string{"sub/**/*.json"}, nil, "sub sub/c.json sub/deep sub/deep/d.json"},
		{[]string{"**/deep"}, nil, "sub sub/deep sub/deep/d.bin sub/deep/d.json"},
		{[]string{"deep/"}, nil, "sub sub/deep sub/deep/d.bin sub/deep/d.json"},
		{[]string{"a.json", "void"}, nil, "a.json void"},
		{nil, []string{"*.json"}, "b.bin sub sub/deep sub/deep/d.bin void z"},
		{nil, []string{"sub"}, "a.json b.bin void z"},
		{[]string{"*.json"}, []string{"deep"}, "a.json sub sub/c.json"},
		{[]string{"[a-b].*"}, nil, "a.json b.bin"},
		{[]string{"?"}, nil, "z"},
		{[]string{"nix"}, nil, ""},
		{[]string{"sub"}, []string{"sub"}, ""},
	} {
		chosen, err := Selection{c.only, c.except}.Choose(l)
		if (err != nil) != (c.want == "") {
			t.Errorf("%v but %v: %v", c.only, c.except, err)
		}
		var got []string
		for i, is := range chosen {
			if is {
				got = append(got, l.Path(i))
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v but %v: got %q, want %q", c.only, c.except, strings.Join(got, " "), c.want)
		}
	}
	for _, bad := range []string{"", "/", "[", "a/["} {
		if (Selection{Only: []string{bad}}).Check() == nil || (Selection{Except: []string{bad}}).Check() == nil {
			t.Errorf("%q is a pattern", bad)
		}
	}
	if _, err := (Selection{}).Choose(build(t, func(*Builder) error { return nil })); err != nil {
		t.Errorf("nothing of nothing: %v", err)
	}
}

// A pattern of many ** does not take for ever.
func TestPatternsAreQuick(t *testing.T) {
	parts := slices.Repeat([]string{"**", "a"}, 200)
	if match(append(parts, "b"), slices.Repeat([]string{"a"}, 2000)) {
		t.Error("it fits")
	}
}

// random makes any tree.
func random(r *rand.Rand, b *Builder, depth int) {
	names := make(map[string]bool)
	for range r.IntN(6) {
		name := make([]byte, 1+r.IntN(4))
		for i := range name {
			name[i] = byte(r.IntN(256))
		}
		if CheckName(string(name)) == nil {
			names[string(name)] = true
		}
	}
	var sorted []string
	for n := range names {
		sorted = append(sorted, n)
	}
	slices.Sort(sorted)
	for _, n := range sorted {
		switch r.IntN(4) {
		case 0:
			if depth < 5 {
				_ = b.Dir(n, Perm(Dir, uint16(r.IntN(1<<12))))
				random(r, b, depth+1)
				_ = b.Up()
			}
		case 1:
			_ = b.Link(n, strings.Repeat("../", r.IntN(depth+1))+"x")
		default:
			_ = b.File(n, Perm(File, uint16(r.IntN(1<<12))), r.Int64N(1<<r.IntN(40)))
		}
	}
}

func TestAnyTreeIsReadAsItWasWritten(t *testing.T) {
	for seed := range uint64(2000) {
		l := build(t, func(b *Builder) error { random(rand.New(rand.NewPCG(seed, 1)), b, 0); return nil })
		enc := l.Append(nil)
		back, err := Parse(enc, l.Size)
		if err != nil || !slices.Equal(back.Entries, l.Entries) {
			t.Fatalf("seed %d: %v", seed, err)
		}
		canonical(t, enc, l.Size)
	}
}

func FuzzParse(f *testing.F) {
	for seed := range uint64(8) {
		b := NewBuilder(0o755)
		random(rand.New(rand.NewPCG(seed, 1)), b, 0)
		if l, err := b.Listing(); err == nil {
			f.Add(l.Append(nil), l.Size)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, size int64) { canonical(t, b, size) })
}

func BenchmarkParse(b *testing.B) {
	build := NewBuilder(0o755)
	for i := range 20000 {
		if err := build.File("file-"+string([]byte{'a' + byte(i/17576%26), 'a' + byte(i/676%26), 'a' + byte(i/26%26), 'a' + byte(i%26)}), 0o644, 1000); err != nil {
			b.Fatal(err)
		}
	}
	l, err := build.Listing()
	if err != nil {
		b.Fatal(err)
	}
	enc := l.Append(nil)
	b.SetBytes(int64(len(enc)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(enc, l.Size); err != nil {
			b.Fatal(err)
		}
	}
}
