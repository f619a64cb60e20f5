package classic

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Mode says what a [Member] message does. docs/CLASSIC.md section 2.
type Mode byte

// The modes.
const (
	Remove Mode = 0
	Add    Mode = 1
)

func (m Mode) String() string {
	switch m {
	case Remove:
		return "remove"
	case Add:
		return "add"
	}
	return fmt.Sprintf("mode %d", byte(m))
}

// Member is the one message between a peer and the swarm server, in both directions: a peer has come or has gone.
//
//	offset  size  field
//	     0     1  mode
//	     1     4  IPv4 address of the peer
//	     5     2  port on which it listens for other peers
type Member struct {
	Mode Mode
	Addr netip.AddrPort
}

// Append writes the message to the end of b. The address must pass [CheckAddr].
func (m Member) Append(b []byte) []byte {
	ip := m.Addr.Addr().As4()
	b = append(b, byte(m.Mode))
	b = append(b, ip[:]...)
	return binary.BigEndian.AppendUint16(b, m.Addr.Port())
}

// ParseMember reads one message of exactly [MemberSize] bytes. On [ErrAddress] the message is returned as well: a reader
// of a stream may skip it and go on, since the border to the next one is known.
func ParseMember(b []byte) (Member, error) {
	if len(b) != MemberSize {
		return Member{}, fmt.Errorf("%w: %d bytes, want %d", ErrSize, len(b), MemberSize)
	}
	m := Member{
		Mode: Mode(b[0]),
		Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[1:5])), binary.BigEndian.Uint16(b[5:])),
	}
	if m.Mode != Add && m.Mode != Remove {
		return Member{}, fmt.Errorf("%w: %d", ErrMode, b[0])
	}
	return m, CheckAddr(m.Addr)
}

// CheckAddr says whether a peer can listen at a: a port other than 0 at an IPv4 address of one machine.
// Loopback and link-local addresses are such; whether they make sense where they are heard is the caller's business.
func CheckAddr(a netip.AddrPort) error {
	ip := a.Addr()
	switch {
	case !ip.Is4():
		return fmt.Errorf("%w: %v is not IPv4", ErrAddress, ip)
	case a.Port() == 0:
		return fmt.Errorf("%w: %v has port 0", ErrAddress, a)
	case ip.As4()[0] == 0, ip.IsMulticast(), ip.As4()[0] >= 240:
		return fmt.Errorf("%w: %v is not one machine's", ErrAddress, ip)
	}
	return nil
}
