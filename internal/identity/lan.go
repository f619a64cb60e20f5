package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// lanLen is how many bytes of a hash go over the local network in clear.
const lanLen = 10

// LANTag returns what the swarm is recognised by on the local network, 16 characters. Who does not know the whole fingerprint of its
// authority, of which a link has half, learns only whether two of them are the same.
func (s *Swarm) LANTag() string { return s.lan("shoal lan swarm v1", nil) }

// LANName returns how a process of a member is called on the local network, 16 characters. Members can work it out, others cannot.
func (s *Swarm) LANName(id PeerID, instance uint64) string {
	return s.lan("shoal lan peer v1", binary.BigEndian.AppendUint64(id[:], instance))
}

func (s *Swarm) lan(what string, b []byte) string {
	key := sha256.Sum256(s.authority.RawSubjectPublicKeyInfo)
	h := hmac.New(sha256.New, key[:])
	h.Write(append([]byte(what+"\x00"), b...))
	return b32.EncodeToString(h.Sum(nil)[:lanLen])
}
