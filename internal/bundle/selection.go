package bundle

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// ErrNothing is a selection that fits nothing in a directory.
var ErrNothing = errors.New("no file fits")

// Selection chooses from a directory by patterns: what fits one of Only (none: everything), and none of Except. A pattern is one of
// path.Match for each component; one without a slash is for names at any depth, and ** stands for any number of components. What
// fits for a directory fits for all that is in it.
type Selection struct {
	Only, Except []string
}

// All says whether everything is chosen.
func (s Selection) All() bool { return len(s.Only) == 0 && len(s.Except) == 0 }

// String tells selections apart.
func (s Selection) String() string { return fmt.Sprintf("%q %q", s.Only, s.Except) }

// Check says whether the patterns are well formed.
func (s Selection) Check() error {
	for _, p := range append(append([]string(nil), s.Only...), s.Except...) {
		if strings.Trim(p, "/") == "" {
			return fmt.Errorf("%q is no pattern", p)
		}
		for part := range strings.SplitSeq(p, "/") {
			if _, err := path.Match(part, ""); err != nil {
				return fmt.Errorf("%q is no pattern: %w", p, err)
			}
		}
	}
	return nil
}

// Choose returns which entries are chosen. The directories that something chosen is in are as well.
func (s Selection) Choose(l *Listing) ([]bool, error) {
	chosen := make([]bool, len(l.Entries))
	only, except := compile(s.Only), compile(s.Except)
	in, out := make([]bool, len(l.Entries)), make([]bool, len(l.Entries))
	any := len(l.Entries) == 0 && len(s.Only) == 0
	_ = l.Each(func(i int, p string) error {
		parent := l.Entries[i].Parent
		in[i] = len(only) == 0 || parent >= 0 && in[parent] || matchAny(only, p)
		out[i] = parent >= 0 && out[parent] || matchAny(except, p)
		if !in[i] || out[i] {
			return nil
		}
		any = true
		for at := int32(i); at >= 0 && !chosen[at]; at = l.Entries[at].Parent {
			chosen[at] = true
		}
		return nil
	})
	if !any {
		return nil, ErrNothing
	}
	return chosen, nil
}

// compile splits patterns into components.
func compile(patterns []string) (out [][]string) {
	for _, p := range patterns {
		parts := strings.Split(strings.Trim(p, "/"), "/")
		if len(parts) == 1 && !strings.HasPrefix(p, "/") {
			parts = append([]string{"**"}, parts...)
		}
		out = append(out, parts)
	}
	return out
}

func matchAny(patterns [][]string, p string) bool {
	if len(patterns) == 0 {
		return false
	}
	names := strings.Split(p, "/")
	for _, parts := range patterns {
		if match(parts, names) {
			return true
		}
	}
	return false
}

// match says whether the components of a pattern fit those of a path. Beginnings of the path that fit are kept, a bit for each, so
// that no pattern takes long.
func match(parts, names []string) bool {
	fits := make([]bool, len(names)+1) // the first n names fit the parts so far
	fits[0] = true
	for _, part := range parts {
		next := make([]bool, len(names)+1)
		for n, is := range fits {
			switch {
			case part == "**":
				next[n] = is || n > 0 && next[n-1]
			case is && n < len(names):
				if ok, _ := path.Match(part, names[n]); ok {
					next[n+1] = true
				}
			}
		}
		fits = next
	}
	return fits[len(names)]
}
