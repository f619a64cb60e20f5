package content

import (
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ID is the name of a content: the BLAKE3 hash of its bytes.
type ID [32]byte

// String returns the 64 hex digits that b3sum prints.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// errCBOR is what is no CBOR byte string of 32 bytes.
var errCBOR = errors.New("not a byte string of 32 bytes")

// UnmarshalCBOR reads an id from a CBOR byte string, which must have its length. It is there since decoders fill up or cut off
// what has another.
func (id *ID) UnmarshalCBOR(b []byte) error {
	if len(b) != 2+len(id) || b[0] != 0x58 || int(b[1]) != len(id) {
		return errCBOR
	}
	copy(id[:], b[2:])
	return nil
}

var short = base32.StdEncoding.WithPadding(base32.NoPadding)

// Short returns the first 128 bits as 26 characters of base32 in lower case, as links have them.
func (id ID) Short() string { return strings.ToLower(short.EncodeToString(id[:16])) }

// ParseID reads the 64 hex digits of an id.
func ParseID(s string) (id ID, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%q is not the 64 hex digits of a content id", s)
	}
	return ID(b), nil
}

// minPrefix is the fewest hex digits that name a content.
const minPrefix = 8

// ErrPrefix is text that is no id, nor the beginning of one.
var ErrPrefix = errors.New("it is neither 8 to 64 hex digits nor the 26 characters of a short id")

// Prefix is the beginning of an id: what people type of it. Its bits behind the first Bits are zero.
type Prefix struct {
	ID   ID
	Bits int // 0 to 256
}

// ParsePrefix reads 8 to 64 hex digits, or the 26 characters that [ID.Short] returns.
func ParsePrefix(s string) (p Prefix, err error) {
	low := strings.ToLower(s)
	if len(low) == 26 {
		if b, err := short.DecodeString(strings.ToUpper(low)); err == nil && strings.ToLower(short.EncodeToString(b)) == low {
			copy(p.ID[:], b)
			p.Bits = 128
			return p, nil
		}
	}
	if len(low) < minPrefix || len(low) > 2*len(p.ID) {
		return p, fmt.Errorf("%q: %w", s, ErrPrefix)
	}
	b, err := hex.DecodeString(low + strings.Repeat("0", 2*len(p.ID)-len(low)))
	if err != nil {
		return p, fmt.Errorf("%q: %w", s, ErrPrefix)
	}
	return Prefix{ID(b), 4 * len(low)}, nil
}

// PrefixOf returns the prefix that only this id has.
func PrefixOf(id ID) Prefix { return Prefix{id, 8 * len(id)} }

// Match says whether an id begins with the prefix.
func (p Prefix) Match(id ID) bool {
	whole := p.Bits / 8
	if string(id[:whole]) != string(p.ID[:whole]) {
		return false
	}
	rest := p.Bits % 8
	return rest == 0 || (id[whole]^p.ID[whole])>>(8-rest) == 0
}

// String returns the prefix's hex digits.
func (p Prefix) String() string { return p.ID.String()[:(p.Bits+3)/4] }
