package bundle

import (
	"fmt"
	"strings"

	"shoal/internal/content"
)

// Builder makes a listing. Entries come depth first, in each directory by the bytes of their names.
type Builder struct {
	l    Listing
	open []level
}

// level is a directory that is open.
type level struct {
	entry int32 // -1: the directory itself
	path  int   // bytes of its path, with a slash behind it
	last  string
}

// NewBuilder begins the listing of a directory with those permissions.
func NewBuilder(perm uint16) *Builder {
	return &Builder{l: Listing{Perm: perm, Head: HeaderSize + 2}, open: []level{{entry: -1}}}
}

// CheckName says whether an entry can have a name.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%w: an entry is called %q", ErrListing, name)
	}
	return nil
}

// add puts an entry into the open directory.
func (b *Builder) add(e Entry, bytes int) error {
	at := &b.open[len(b.open)-1]
	if err := CheckName(e.Name); err != nil {
		return err
	}
	if at.last >= e.Name && at.last != "" {
		return fmt.Errorf("%w: %q is not behind %q", ErrListing, e.Name, at.last)
	}
	b.l.Head += int64(2 + len(e.Name) + bytes)
	if len(b.l.Entries) == MaxEntries || b.l.Head > MaxListing || at.path+len(e.Name) > MaxPath {
		return ErrTooMany
	}
	at.last, e.Parent = e.Name, at.entry
	b.l.Entries = append(b.l.Entries, e)
	return nil
}

// File adds a file.
func (b *Builder) File(name string, perm uint16, size int64) error {
	if size < 0 || size > content.MaxSize-b.l.Size {
		return fmt.Errorf("%w: more than %d bytes", content.ErrSize, int64(content.MaxSize))
	}
	b.l.Size += size
	return b.add(Entry{Name: name, Kind: File, Perm: perm, Size: size}, 2+uvarintLen(uint64(size)))
}

func uvarintLen(v uint64) (n int) {
	for n = 1; v >= 0x80; n++ {
		v >>= 7
	}
	return n
}

// Link adds a symbolic link, which must stay inside the directory.
func (b *Builder) Link(name, target string) error {
	if !Inside(target, len(b.open)-1) {
		return fmt.Errorf("%w: the link %q leads out of the directory", ErrListing, name)
	}
	return b.add(Entry{Name: name, Kind: Link, Target: target}, 2+len(target))
}

// Inside says whether a link that is so many directories deep stays inside, whatever other links it goes through: its target is
// relative, and goes up only at its beginning, and not above the directory.
func Inside(target string, depth int) bool {
	if target == "" || len(target) > MaxPath || target[0] == '/' || strings.Contains(target, "\x00") {
		return false
	}
	down := false
	for name := range strings.SplitSeq(target, "/") {
		switch {
		case name == "" || name == ".":
		case name != "..":
			down = true
		case down || depth == 0:
			return false
		default:
			depth--
		}
	}
	return true
}

// Dir adds a directory, and opens it.
func (b *Builder) Dir(name string, perm uint16) error {
	path := b.open[len(b.open)-1].path + len(name) + 1
	if err := b.add(Entry{Name: name, Kind: Dir, Perm: perm}, 2); err != nil {
		return err
	}
	b.l.Head++ // its end
	b.open = append(b.open, level{entry: int32(len(b.l.Entries) - 1), path: path})
	return nil
}

// Up closes the open directory.
func (b *Builder) Up() error {
	if len(b.open) == 1 {
		return fmt.Errorf("%w: it ends a directory that was not begun", ErrListing)
	}
	b.open = b.open[:len(b.open)-1]
	return nil
}

// Listing returns what was built. The builder is of no use afterwards.
func (b *Builder) Listing() (*Listing, error) {
	if len(b.open) != 1 {
		return nil, fmt.Errorf("%w: it does not end a directory", ErrListing)
	}
	l := &b.l
	if l.Head > MaxListing {
		return nil, ErrTooMany
	}
	off := l.Head
	for i := range l.Entries {
		if e := &l.Entries[i]; e.Kind == File {
			e.Off = off
			off += e.Size
		}
	}
	if l.Size = off; off > content.MaxSize {
		return nil, fmt.Errorf("%w: more than %d bytes", content.ErrSize, int64(content.MaxSize))
	}
	return l, nil
}
