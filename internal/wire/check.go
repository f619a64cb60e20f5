package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"shoal/internal/content"
)

// Bounds of messages. A message within them fits into a control frame: a test makes the largest of each.
const (
	MaxText       = 200      // bytes of a text for people
	MaxAgent      = 64       // of a program's name, and of a machine's
	MaxAddrs      = 16       // addresses of one peer
	MaxAddr       = 64       // bytes of one
	MaxEntries    = 24       // in one Found
	MaxMembers    = 48       // in one There
	MaxPeers      = 48       // in one Peers, came and went each
	MaxStatements = 14       // removals in one message
	MaxStatement  = 4 << 10  // bytes of one
	MaxCert       = 768      // bytes of a certificate in a record
	MaxSig        = 128      // bytes of a signature
	MaxCursor     = 64       // bytes of a page's mark
	MaxBitmap     = 32 << 10 // bytes of a have's bitmap
	MaxRuns       = 8192     // numbers in a have's runs
	MaxClaims     = 64       // pieces in a claim
)

// MaxPart is the most bytes of a manifest in one [Part].
const MaxPart = 48 << 10

// MaxName is the longest name of a content, in bytes.
const MaxName = 255

// ErrName is a name that no content may have.
var ErrName = errors.New("not a valid name")

// CheckName says whether a content may have a name: 1 to 255 bytes of UTF-8 without control characters and separators,
// and neither "." nor "..".
func CheckName(name string) error {
	why := ""
	switch {
	case name == "" || len(name) > MaxName:
		why = "it must have 1 to 255 bytes"
	case !utf8.ValidString(name):
		why = "it is not UTF-8"
	case strings.ContainsAny(name, `/\`):
		why = "it contains a separator"
	case name == "." || name == "..":
		why = "it means a folder"
	case strings.ContainsFunc(name, unicode.IsControl):
		why = "it contains a control character"
	case strings.ContainsFunc(name, turns):
		why = "it contains a character that turns the direction of a text"
	default:
		return nil
	}
	return fmt.Errorf("%w: %s", ErrName, why)
}

// turns says whether a character changes the direction in which others are shown: a name with it looks like another one.
func turns(r rune) bool {
	return r == 0x061C || r == 0x200E || r == 0x200F || r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069
}

// Errors of fields. They say what is wrong, and not where: the caller names the message.
var (
	errChannel = errors.New("channel 0")
	errText    = errors.New("a text is too long, or is not UTF-8")
	errSize    = errors.New("a size that no content has")
	errPiece   = errors.New("a piece that no content has")
	errID      = errors.New("no id")
	errList    = errors.New("a list is too long")
	errAddr    = errors.New("an address that is none")
	errRange   = errors.New("a number out of range")
)

func channel(n uint64) error {
	if n == 0 {
		return errChannel
	}
	return nil
}

func text(max int, texts ...string) error {
	for _, s := range texts {
		if len(s) > max || !utf8.ValidString(s) {
			return errText
		}
	}
	return nil
}

func size(n int64) error {
	if n < 0 || n > content.MaxSize {
		return errSize
	}
	return nil
}

func piece(n uint32) error {
	if n >= content.MaxPieces {
		return errPiece
	}
	return nil
}

func id(i content.ID) error {
	if i == (content.ID{}) {
		return errID
	}
	return nil
}

func when(bad bool, err error) error {
	if bad {
		return err
	}
	return nil
}

// first returns the first error.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// addrs checks where a peer can be dialled: literal addresses with a port.
func addrs(list []string) error {
	if len(list) > MaxAddrs {
		return errList
	}
	for _, s := range list {
		if len(s) > MaxAddr {
			return errAddr
		}
		a, err := netip.ParseAddrPort(s)
		if err != nil || a.Port() == 0 || a.Addr().Zone() != "" || a.Addr().IsUnspecified() || a.Addr().IsMulticast() {
			return errAddr
		}
	}
	return nil
}

func statements(list [][]byte) error {
	if len(list) > MaxStatements {
		return errList
	}
	for _, b := range list {
		if len(b) == 0 || len(b) > MaxStatement {
			return errList
		}
	}
	return nil
}

func (m *Hello) check() error { return text(MaxAgent, m.Agent, m.Name, m.Site) }
func (m *Use) check() error   { return nil }
func (m *Ping) check() error  { return nil }
func (m *Pong) check() error  { return nil }
func (m *Bye) check() error   { return text(MaxText, m.Text) }

func (m *Open) check() error { return first(channel(m.Channel), id(m.ID)) }

func (m *Info) check() error {
	return first(channel(m.Channel), size(m.Size), when(!m.Known && (m.All || m.Size != 0), errRange))
}

func (m *Refuse) check() error { return channel(m.Channel) }

func (m *Manifest) check() error {
	return first(channel(m.Channel), when(m.Offset >= maxManifest, errRange))
}

// maxManifest bounds the length of an encoded manifest, in bytes.
const maxManifest = 8 + 32*content.MaxPieces + content.LeafSize + 32*32

func (m *Part) check() error {
	n := uint64(len(m.Bytes))
	return first(channel(m.Channel), when(n == 0 || n > MaxPart || m.Total > maxManifest || m.Offset > m.Total || m.Offset+n > m.Total, errRange))
}

func (m *Have) check() error {
	if err := first(channel(m.Channel), piece(m.First), when((len(m.Bitmap) == 0) == (len(m.Runs) == 0) || m.Begun && m.Lost, errRange)); err != nil {
		return err
	}
	if len(m.Bitmap) > MaxBitmap || len(m.Runs) > MaxRuns || len(m.Runs)%2 != 0 || uint64(m.First)+8*uint64(len(m.Bitmap)) > content.MaxPieces+7 {
		return errRange
	}
	for i, b := range m.Bitmap { // no bit behind the last piece there can be
		for bit := range uint64(8) {
			if b&(0x80>>bit) != 0 && uint64(m.First)+8*uint64(i)+bit >= content.MaxPieces {
				return errPiece
			}
		}
	}
	end := uint64(m.First)
	for _, n := range m.Runs {
		if end += uint64(n); end > content.MaxPieces {
			return errPiece
		}
	}
	return nil
}

func (m *Reset) check() error { return channel(m.Channel) }
func (m *Want) check() error  { return channel(m.Channel) }

func (m *Credit) check() error {
	if m.Piece != nil {
		if err := piece(*m.Piece); err != nil {
			return err
		}
	}
	return first(channel(m.Channel), when(m.Number == 0, errRange))
}

func (m *Get) check() error {
	return first(channel(m.Channel), piece(m.Piece), when(m.Credit == 0 || m.Request == 0, errRange))
}

func (m *Proof) check() error {
	n := len(m.Parts)
	return when(m.Request == 0 || n == 0 || n%32 != 0 || n > 32*content.MaxParts, errRange)
}

func (m *Pass) check() error   { return first(channel(m.Channel), when(m.Credit == 0, errRange)) }
func (m *Cancel) check() error { return when(m.Request == 0, errRange) }
func (m *End) check() error    { return when(m.Request == 0, errRange) }
func (m *Close) check() error  { return channel(m.Channel) }
func (m *Spare) check() error  { return channel(m.Channel) }

func (m *Claim) check() error {
	for _, p := range m.Pieces {
		if err := piece(p); err != nil {
			return err
		}
	}
	return first(channel(m.Channel), when(len(m.Pieces) > MaxClaims, errList))
}

func (m *Enter) check() error { return first(addrs(m.Addrs), statements(m.Removals)) }

func (m *Record) check() error {
	for _, c := range m.Chain {
		if len(c) == 0 || len(c) > MaxCert {
			return errList
		}
	}
	return first(CheckName(m.Name), id(m.ID), size(m.Size), when(len(m.Chain) != 2 || len(m.Sig) == 0 || len(m.Sig) > MaxSig, errList))
}

func (m *Offer) check() error   { return m.Record.check() }
func (m *Hold) check() error    { return first(id(m.ID), size(m.Size)) }
func (m *Retract) check() error { return id(m.ID) }

func (m *Find) check() error {
	if (m.Bits == 0) == (m.Name == "") {
		return errRange
	}
	return (*Seek)(m).check()
}

func (m *Seek) check() error {
	if m.Bits > 256 || (m.Bits != 0 && m.Name != "") || len(m.After) > MaxCursor {
		return errRange
	}
	if m.Bits == 0 {
		return first(when(m.Name != "", CheckName(m.Name)), when(m.Prefix != (content.ID{}), errRange))
	}
	rest := content.Prefix{ID: m.Prefix, Bits: int(m.Bits)}
	for i := range 256 { // no bit behind the prefix
		if i >= rest.Bits && m.Prefix[i/8]&(0x80>>(i%8)) != 0 {
			return errRange
		}
	}
	return nil
}

func (m *List) check() error { return when(len(m.After) > MaxCursor, errRange) }

func (m *Here) check() error {
	for _, e := range m.Entries {
		if e.Record == nil {
			return errList
		}
	}
	return (*Found)(m).check()
}

func (m *Found) check() error {
	if len(m.Entries) > MaxEntries || len(m.More) > MaxCursor {
		return errList
	}
	for i := range m.Entries {
		e := &m.Entries[i]
		err := first(CheckName(e.Name), id(e.ID), size(e.Size), text(MaxAgent, e.ByName))
		if err == nil && e.Record != nil {
			err = first(e.Record.check(), when(e.Record.ID != e.ID || e.Record.Name != e.Name || e.Record.Size != e.Size || e.Record.Kind != e.Kind, errRange))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *Follow) check() error { return id(m.ID) }

func (m *Peers) check() error {
	if len(m.Added) > MaxPeers || len(m.Gone) > MaxPeers {
		return errList
	}
	for _, list := range [][]PeerAddr{m.Added, m.Gone} {
		for i := range list {
			if err := first(id(content.ID(list[i].ID)), addrs(list[i].Addrs)); err != nil {
				return err
			}
		}
	}
	return id(m.ID)
}

func (m *Removed) check() error {
	return first(statements(m.Statements), when(len(m.Statements) == 0, errList))
}
func (m *Leave) check() error { return nil }
func (m *Who) check() error   { return when(len(m.After) > MaxCursor, errRange) }

func (m *There) check() error {
	if len(m.Members) > MaxMembers || len(m.More) > MaxCursor {
		return errList
	}
	for i := range m.Members {
		w := &m.Members[i]
		if err := first(text(MaxAgent, w.Name, w.Agent), text(16, w.Role), addrs(w.Addrs)); err != nil {
			return err
		}
	}
	return nil
}

func (m *Failed) check() error { return text(MaxText, m.Text) }
func (m *Reach) check() error  { return nil }

func (m *Reached) check() error {
	for _, a := range []string{m.Addr, m.From} {
		if a != "" && addrs([]string{a}) != nil {
			return errAddr
		}
	}
	return nil
}
