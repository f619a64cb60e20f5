package identity

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"shoal/internal/content"
	"shoal/internal/wire"
)

var b32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// PeerID is the hash of a peer's public key.
type PeerID = wire.PeerID

// PeerText returns a peer's id as 52 characters.
func PeerText(id PeerID) string { return b32.EncodeToString(id[:]) }

// PeerShort returns as much of a peer's id as people need.
func PeerShort(id PeerID) string { return PeerText(id)[:10] }

// ParsePeer reads what PeerText returns.
func ParsePeer(s string) (id PeerID, err error) {
	b, err := b32.DecodeString(s)
	if err != nil || len(b) != len(id) || b32.EncodeToString(b) != s {
		return id, fmt.Errorf("%q is not the 52 characters of a peer's id", s)
	}
	return PeerID(b), nil
}

// SwarmID is what a swarm is recognised by: a fingerprint of its authority's public key.
type SwarmID [16]byte

// String returns 26 characters.
func (id SwarmID) String() string { return b32.EncodeToString(id[:]) }

// ParseSwarm reads what String returns.
func ParseSwarm(s string) (id SwarmID, err error) {
	b, err := b32.DecodeString(s)
	if err != nil || len(b) != len(id) || b32.EncodeToString(b) != s {
		return id, fmt.Errorf("%q is not the 26 characters of a swarm's id", s)
	}
	return SwarmID(b), nil
}

func peerOf(spki []byte) PeerID { return sha256.Sum256(spki) }

func swarmOf(spki []byte) SwarmID {
	sum := sha256.Sum256(spki)
	return SwarmID(sum[:16])
}

// Role says what a member may do.
type Role string

// The roles.
const (
	ServerRole Role = "server" // a swarm server; it may do all that a member may
	MemberRole Role = "member"
	Reader     Role = "reader" // may fetch and pass on, not offer names
)

func (r Role) valid() bool { return r == ServerRole || r == MemberRole || r == Reader }

// Token lets whoever has it join. It does not print.
type Token [10]byte

// String hides the token.
func (Token) String() string { return "(secret)" }

// Secret returns the token as 16 characters.
func (t Token) Secret() string { return b32.EncodeToString(t[:]) }

func parseToken(s string) (t Token, err error) {
	b, err := b32.DecodeString(s)
	if err != nil || len(b) != len(t) {
		return t, ErrToken
	}
	return Token(b), nil
}

// DefaultServerPort is where a swarm server listens.
const DefaultServerPort = 50001

const (
	linkScheme = "shoal://"
	maxLink    = 2 << 10
	maxServers = 8
	codeLen    = 42
)

// ErrLink is text that is no link.
var ErrLink = errors.New("it is not a shoal link")

// Link says where a swarm is, how to recognise it, how to be let in, and what to get.
type Link struct {
	Addrs []string // host:port of its servers
	Swarm SwarmID
	Token Token          // all zero: for those who have joined
	Name  string         // of a content; empty: none
	ID    content.Prefix // of that content; it decides
	Dir   bool           // it is a directory
}

// HasToken says whether the link lets in.
func (l Link) HasToken() bool { return l.Token != Token{} }

// String returns the link as people paste it, its token among it.
func (l Link) String() string {
	// 42 characters are 210 bits: two of version 0, the swarm, the token.
	bits := make([]byte, 0, 27)
	bits = append(bits, l.Swarm[:]...)
	bits = append(bits, l.Token[:]...)
	s := linkScheme + strings.Join(l.Addrs, ",") + "/" + encodeCode(bits)
	if l.ID.Bits > 0 {
		s += "/" + url.PathEscape(l.Name)
		if l.Dir {
			s += "/"
		}
		s += "~" + l.ID.ID.Short()
	}
	return s
}

// encodeCode writes two zero bits and then 208 others in base32.
func encodeCode(b []byte) string {
	out := make([]byte, 0, codeLen)
	acc, n := 0, 2
	for _, c := range b {
		acc, n = acc<<8|int(c), n+8
		for n >= 5 {
			n -= 5
			out = append(out, "abcdefghijklmnopqrstuvwxyz234567"[acc>>n&31])
		}
		acc &= 1<<n - 1
	}
	return string(out)
}

func decodeCode(s string) (b []byte, ok bool) {
	if len(s) != codeLen {
		return nil, false
	}
	acc, n := 0, -2
	for i := range len(s) {
		v := strings.IndexByte("abcdefghijklmnopqrstuvwxyz234567", s[i])
		if v < 0 || i == 0 && v >= 8 { // the version is in the first two bits
			return nil, false
		}
		acc, n = acc<<5|v, n+5
		if n >= 8 {
			n -= 8
			b = append(b, byte(acc>>n))
			acc &= 1<<n - 1
		}
	}
	return b, true
}

// ParseLink reads a link.
func ParseLink(s string) (l Link, err error) {
	rest, ok := strings.CutPrefix(s, linkScheme)
	if !ok || len(s) > maxLink || !utf8.ValidString(s) {
		return l, ErrLink
	}
	parts := strings.Split(rest, "/")
	if len(parts) == 4 && strings.HasPrefix(parts[3], "~") { // NAME/~ID
		l.Dir = true
		parts = append(parts[:2], parts[2]+parts[3])
	}
	if len(parts) < 2 || len(parts) > 3 {
		return l, fmt.Errorf("%w: it has not the form shoal://HOST:PORT/CODE/NAME~ID", ErrLink)
	}
	code, ok := decodeCode(strings.ToLower(parts[1]))
	if !ok {
		return l, fmt.Errorf("%w: its code is cut off, misspelt, or of a later version", ErrLink)
	}
	l.Swarm, l.Token = SwarmID(code[:16]), Token(code[16:])
	for _, a := range strings.Split(parts[0], ",") {
		addr, err := CheckServer(a)
		if err != nil || len(l.Addrs) == maxServers {
			return l, fmt.Errorf("%w: %q is no server's address", ErrLink, a)
		}
		l.Addrs = append(l.Addrs, addr)
	}
	if len(parts) == 3 && parts[2] != "" {
		name, id, ok := cutLast(parts[2], "~")
		if ok {
			l.ID, err = content.ParsePrefix(id)
		}
		if !ok || err != nil || len(id) != 26 {
			return l, fmt.Errorf("%w: what it is to get does not end in ~ID", ErrLink)
		}
		if l.Name, err = url.PathUnescape(name); err != nil || wire.CheckName(l.Name) != nil {
			return l, fmt.Errorf("%w: its file's name is not valid", ErrLink)
		}
	}
	return l, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// CheckServer reads a server's address, HOST or HOST:PORT, and returns it with its port.
func CheckServer(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.Trim(s, "[]"), strconv.Itoa(DefaultServerPort)
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", err
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	bad := host == "" || len(host) > 253 || strings.ContainsFunc(host, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:", r)
	})
	if err != nil || n == 0 || bad {
		return "", fmt.Errorf("%q is not HOST or HOST:PORT", s)
	}
	return net.JoinHostPort(host, port), nil
}
