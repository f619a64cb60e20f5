package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"testing"
)

// Both names are as docs/PROTOCOL.md section 15 has them, and tell members from strangers.
func TestNamesOnTheLocalNetwork(t *testing.T) {
	s, other := newSwarm(t), newSwarm(t)
	a, b := joined(t, s, MemberRole), joined(t, s, Reader)
	key := sha256.Sum256(s.authority.RawSubjectPublicKeyInfo)
	keyed := func(text []byte) string {
		h := hmac.New(sha256.New, key[:])
		h.Write(text)
		return b32.EncodeToString(h.Sum(nil)[:10])
	}
	if got := a.LANTag(); got != b.LANTag() || got != keyed([]byte("shoal lan swarm v1\x00")) || len(got) != 16 {
		t.Errorf("the tags are %s and %s", got, b.LANTag())
	}
	id := a.Self()
	want := keyed(append(append([]byte("shoal lan peer v1\x00"), id[:]...), 1, 2, 3, 4, 5, 6, 7, 8))
	if got := b.LANName(id, 0x0102030405060708); got != want {
		t.Errorf("the name is %s, want %s", got, want)
	}
	names := map[string]bool{s.LANTag(): true, other.LANTag(): true}
	for _, sw := range []*Swarm{s, other} {
		for _, who := range []PeerID{a.Self(), b.Self()} {
			for instance := range uint64(3) {
				names[sw.LANName(who, instance)] = true
			}
		}
	}
	if len(names) != 2+2*2*3 {
		t.Errorf("%d different names", len(names))
	}
}
