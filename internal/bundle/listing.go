package bundle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"shoal/internal/content"
)

const (
	// HeaderSize is how many bytes of the stream say how long the listing is.
	HeaderSize = 16
	// MaxListing is the longest listing, in bytes, the header among them.
	MaxListing = 64 << 20
	// MaxEntries bounds the entries of a listing, and hence the memory that one takes.
	MaxEntries = 1 << 21
	// MaxName bounds a name, in bytes.
	MaxName = 255
	// MaxPath bounds a path below the directory, and a link's target, in bytes.
	MaxPath = 4095

	magic   = "shoald"
	version = "01"
)

// Errors of listings.
var (
	ErrListing = errors.New("not the listing of a directory")
	ErrNewer   = errors.New("the listing is of a later version")
	ErrTooMany = errors.New("the directory has too many entries, or too long names")
)

// Kind says what an entry is.
type Kind byte

// The kinds. They are the bytes of the format.
const (
	File Kind = 'f'
	Dir  Kind = 'd'
	Link Kind = 'l'
	up   Kind = 'u' // the end of a directory
)

// Entry is something in a directory.
type Entry struct {
	Name   string // one component of a path
	Target string // of a link
	Off    int64  // of a file: where its bytes begin in the stream
	Size   int64  // of a file
	Parent int32  // the entry that it is in; -1: the directory itself
	Perm   uint16 // of a file or directory
	Kind   Kind
}

// Listing is what is in a directory. It is not changed once it was made.
type Listing struct {
	Perm    uint16 // of the directory itself
	Entries []Entry
	Head    int64 // bytes of the listing's encoding: where the first file's begin
	Size    int64 // bytes of the whole stream
}

// Perm returns the permissions that a listing has for those that a file or directory has: its owner can read it, and enter it; nobody
// else can write. What depends on the machine's habits, and what is dangerous elsewhere, is left out.
func Perm(kind Kind, perm uint16) uint16 {
	if kind == Dir {
		return perm&0o755 | 0o700
	}
	return perm&0o755 | 0o400
}

// Append appends the encoding of the listing.
func (l *Listing) Append(b []byte) []byte {
	start := len(b)
	b = append(b, magic+version...)
	b = binary.BigEndian.AppendUint64(b, 0)
	b = binary.BigEndian.AppendUint16(b, l.Perm)
	open := int32(-1)
	for i := range l.Entries {
		e := &l.Entries[i]
		for ; open != e.Parent; open = l.Entries[open].Parent {
			b = append(b, byte(up))
		}
		if b = e.append(b); e.Kind == Dir {
			open = int32(i)
		}
	}
	for ; open >= 0; open = l.Entries[open].Parent {
		b = append(b, byte(up))
	}
	binary.BigEndian.PutUint64(b[start+8:], uint64(len(b)-start))
	return b
}

func (e *Entry) append(b []byte) []byte {
	b = append(b, byte(e.Kind), byte(len(e.Name)))
	b = append(b, e.Name...)
	switch e.Kind {
	case File:
		b = binary.BigEndian.AppendUint16(b, e.Perm)
		b = binary.AppendUvarint(b, uint64(e.Size))
	case Dir:
		b = binary.BigEndian.AppendUint16(b, e.Perm)
	case Link:
		b = binary.BigEndian.AppendUint16(b, uint16(len(e.Target)))
		b = append(b, e.Target...)
	}
	return b
}

// HeadLen returns how long the listing is, the header included, of which b has the bytes.
func HeadLen(b []byte) (int64, error) {
	if len(b) < HeaderSize || !strings.HasPrefix(string(b[:6]), magic) {
		return 0, fmt.Errorf("%w: it does not begin as one", ErrListing)
	}
	if v := string(b[6:8]); v != version {
		return 0, fmt.Errorf("%w: %q", ErrNewer, v)
	}
	n := binary.BigEndian.Uint64(b[8:])
	if n < HeaderSize+2 || n > MaxListing {
		return 0, fmt.Errorf("%w: it claims %d bytes", ErrListing, n)
	}
	return int64(n), nil
}

// Parse reads a listing, of a stream of a size.
func Parse(b []byte, size int64) (*Listing, error) {
	n, err := HeadLen(b)
	if err != nil {
		return nil, err
	}
	if n != int64(len(b)) {
		return nil, fmt.Errorf("%w: it claims %d bytes, and has %d", ErrListing, n, len(b))
	}
	r := reader{rest: string(b[HeaderSize:])}
	build := NewBuilder(r.perm())
	if build.l.Perm != Perm(Dir, build.l.Perm) {
		r.bad = true
	}
	for !r.bad && r.rest != "" {
		if err := r.entry(build); err != nil {
			return nil, err
		}
	}
	if r.bad {
		return nil, fmt.Errorf("%w: it is malformed", ErrListing)
	}
	l, err := build.Listing()
	if err != nil {
		return nil, err
	}
	if l.Head != n || l.Size != size {
		return nil, fmt.Errorf("%w: of %d bytes, the content has %d", ErrListing, l.Size, size)
	}
	return l, nil
}

// reader takes fields off the front of a listing. What is not there is bad, and zero.
type reader struct {
	rest string
	bad  bool
}

func (r *reader) take(n int) string {
	if n > len(r.rest) {
		r.bad = true
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *reader) byte() byte {
	if s := r.take(1); s != "" {
		return s[0]
	}
	return 0
}

func (r *reader) perm() uint16 {
	s := r.take(2)
	if s == "" {
		return 0
	}
	return uint16(s[0])<<8 | uint16(s[1])
}

func (r *reader) size() int64 {
	n := min(len(r.rest), binary.MaxVarintLen64)
	v, used := binary.Uvarint([]byte(r.rest[:n]))
	if used <= 0 || v > content.MaxSize || used != len(binary.AppendUvarint(nil, v)) {
		r.bad = true
		return 0
	}
	r.rest = r.rest[used:]
	return int64(v)
}

// entry reads an entry, or the end of a directory.
func (r *reader) entry(b *Builder) error {
	kind := Kind(r.byte())
	if kind == up {
		return b.Up()
	}
	name := r.take(int(r.byte()))
	var perm uint16
	switch kind {
	case File:
		if perm = r.perm(); perm == Perm(kind, perm) {
			size := r.size()
			if r.bad {
				return nil
			}
			return b.File(name, perm, size)
		}
	case Dir:
		if perm = r.perm(); perm == Perm(kind, perm) && !r.bad {
			return b.Dir(name, perm)
		}
	case Link:
		target := r.take(int(r.perm()))
		if !r.bad {
			return b.Link(name, target)
		}
	}
	r.bad = true
	return nil
}

// Path returns where an entry is below the directory, with slashes.
func (l *Listing) Path(i int) string {
	var names []string
	for at := int32(i); at >= 0; at = l.Entries[at].Parent {
		names = append(names, l.Entries[at].Name)
	}
	for a, b := 0, len(names)-1; a < b; a, b = a+1, b-1 {
		names[a], names[b] = names[b], names[a]
	}
	return strings.Join(names, "/")
}

// Each calls do for each entry, with its path, until that fails.
func (l *Listing) Each(do func(i int, path string) error) error {
	open := int32(-1)
	var path []byte // of the open directory, with a slash behind it
	for i := range l.Entries {
		e := &l.Entries[i]
		for ; open != e.Parent; open = l.Entries[open].Parent {
			path = path[:len(path)-len(l.Entries[open].Name)-1]
		}
		whole := append(path, e.Name...)
		if err := do(i, string(whole)); err != nil {
			return err
		}
		if e.Kind == Dir {
			path, open = append(whole, '/'), int32(i)
		}
	}
	return nil
}

// Files returns how many files there are.
func (l *Listing) Files() (n int) {
	for i := range l.Entries {
		if l.Entries[i].Kind == File {
			n++
		}
	}
	return n
}
