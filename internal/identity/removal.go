package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"shoal/internal/content"
	"shoal/internal/wire"
)

const (
	removalDomain = "shoal removal v1\x00"
	offerDomain   = "shoal offer v1\x00"
	// MaxRemoval bounds one statement, in bytes.
	MaxRemoval = 4 << 10
	// maxRemovals bounds those that are kept.
	maxRemovals = 1 << 16
	// maxRecords bounds the chains that are remembered as verified.
	maxRecords = 4096
	// lookEvery is how often the file is looked at for what another process wrote.
	lookEvery = 500 * time.Millisecond
)

// ErrRemoval is a statement that removes nobody.
var ErrRemoval = errors.New("not a valid removal")

// ErrRecord is an offer whose signature does not hold.
var ErrRecord = errors.New("not a valid offer")

// removals is who is no member any more.
type removals struct {
	statements [][]byte
	who        map[PeerID]bool
	stamp      os.FileInfo
	looked     time.Time
}

func removalSigned(swarm SwarmID, who PeerID) []byte {
	b := append([]byte(removalDomain), swarm[:]...)
	return append(b, who[:]...)
}

// Remove signs that a peer is no member any more, and keeps it. An issuer is removed by the authority's key.
func (s *Swarm) Remove(who PeerID) ([]byte, error) {
	keyName, signer := "issuer.key", s.issuer
	if who == s.self.issuer {
		keyName, signer = "authority.key", s.authority
	}
	key, err := s.keyFile(keyName)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNoIssuer
	} else if err != nil {
		return nil, err
	}
	b := removalSigned(s.id, who)
	sum := sha256.Sum256(b)
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		return nil, err
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(signer.Raw)))
	b = append(append(b, signer.Raw...), sig...)
	_, err = s.Merge([][]byte{b})
	return b, err
}

// verifyRemoval says whom a statement removes.
func (s *Swarm) verifyRemoval(b []byte) (who PeerID, err error) {
	head := len(removalDomain) + len(SwarmID{}) + len(who)
	if len(b) < head+2 || len(b) > MaxRemoval || !bytes.HasPrefix(b, removalSigned(s.id, who)[:head-len(who)]) {
		return who, ErrRemoval
	}
	copy(who[:], b[head-len(who):])
	n := int(binary.BigEndian.Uint16(b[head:]))
	rest := b[head+2:]
	if n > len(rest) {
		return who, ErrRemoval
	}
	signer, err := x509.ParseCertificate(rest[:n])
	if err != nil {
		return who, fmt.Errorf("%w: %v", ErrRemoval, err)
	}
	isAuthority := bytes.Equal(signer.Raw, s.authority.Raw)
	if !isAuthority && (!signer.IsCA || signer.CheckSignatureFrom(s.authority) != nil) {
		return who, fmt.Errorf("%w: the authority has not signed its issuer", ErrRemoval)
	}
	key, ok := signer.PublicKey.(*ecdsa.PublicKey)
	sum := sha256.Sum256(b[:head])
	if !ok || !ecdsa.VerifyASN1(key, sum[:], rest[n:]) {
		return who, fmt.Errorf("%w: its signature is wrong", ErrRemoval)
	}
	return who, nil
}

// look reads the removals, if another process may have written some. s.mu is held.
func (s *Swarm) look(now bool) {
	r := &s.removals
	if !now && time.Since(r.looked) < lookEvery {
		return
	}
	r.looked = time.Now()
	fi, err := os.Stat(filepath.Join(s.dir, "removals.json"))
	if err != nil || r.stamp != nil && os.SameFile(r.stamp, fi) && r.stamp.ModTime().Equal(fi.ModTime()) && r.stamp.Size() == fi.Size() {
		return
	}
	var all [][]byte
	if s.readJSON("removals.json", &all) != nil {
		return // what we know stays
	}
	r.stamp = fi
	s.take(all)
}

// take adds valid statements to those that are known. s.mu is held.
func (s *Swarm) take(statements [][]byte) (added int) {
	r := &s.removals
	if r.who == nil {
		r.who = make(map[PeerID]bool)
	}
	for _, b := range statements {
		who, err := s.verifyRemoval(b)
		if err != nil || r.who[who] || len(r.statements) >= maxRemovals {
			continue
		}
		r.who[who] = true
		r.statements = append(r.statements, bytes.Clone(b))
		added++
	}
	return added
}

// Merge keeps the valid ones of some statements, and returns how many were new.
func (s *Swarm) Merge(statements [][]byte) (added int, err error) {
	if len(statements) == 0 {
		return 0, nil
	}
	err = s.locked(func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.look(true)
		if added = s.take(statements); added == 0 {
			return nil
		}
		return s.writeJSON("removals.json", s.removals.statements)
	})
	return added, err
}

// Removals returns all statements.
func (s *Swarm) Removals() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look(false)
	return s.removals.statements
}

// IsRemoved says whether a peer is no member any more.
func (s *Swarm) IsRemoved(id PeerID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look(false)
	return s.removals.who[id]
}

func offerSigned(swarm SwarmID, r *wire.Record) [32]byte {
	b := append([]byte(offerDomain), swarm[:]...)
	b = append(b, r.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Size))
	b = append(b, r.Name...)
	if r.Kind != wire.KindFile { // a name has no zero byte: this is no other name of a file
		b = append(b, 0)
		b = binary.BigEndian.AppendUint64(b, uint64(r.Kind))
	}
	return sha256.Sum256(b)
}

// SignRecord makes an offer of a file of ours.
func (s *Swarm) SignRecord(name string, id content.ID, size int64) (wire.Record, error) {
	return s.Sign(wire.Record{Name: name, ID: id, Size: size})
}

// Sign makes an offer of ours of what a record says: name, id, size and kind.
func (s *Swarm) Sign(r wire.Record) (wire.Record, error) {
	if s.self.role == Reader {
		return wire.Record{}, ErrRole
	}
	sum := offerSigned(s.id, &r)
	sig, err := ecdsa.SignASN1(rand.Reader, s.key, sum[:])
	r.Chain, r.Sig = s.chain, append(make([]byte, 0, len(sig)), sig...) // no longer than it is: a peer may have very many
	return r, err
}

// VerifyRecord says who made an offer.
func (s *Swarm) VerifyRecord(r *wire.Record) (by PeerID, role Role, err error) {
	if len(r.Chain) != 2 {
		return by, "", fmt.Errorf("%w: it has no chain", ErrRecord)
	}
	chain := string(r.Chain[0]) + string(r.Chain[1])
	s.mu.Lock()
	m, known := s.records[chain]
	s.mu.Unlock()
	if !known {
		leaf, err1 := x509.ParseCertificate(r.Chain[0])
		issuer, err2 := x509.ParseCertificate(r.Chain[1])
		if err := errors.Join(err1, err2); err != nil {
			return by, "", fmt.Errorf("%w: %v", ErrRecord, err)
		}
		if m, err = verify(s.authority, issuer, leaf); err != nil {
			return by, "", err
		}
		s.mu.Lock()
		if len(s.records) >= maxRecords {
			clear(s.records)
		}
		s.records[chain] = m
		s.mu.Unlock()
	}
	sum := offerSigned(s.id, r)
	switch {
	case m.role == Reader:
		return by, "", ErrRole
	case s.IsRemoved(m.id) || s.IsRemoved(m.issuer):
		return by, "", ErrRemoved
	case !ecdsa.VerifyASN1(m.key, sum[:], r.Sig):
		return by, "", fmt.Errorf("%w: its signature is wrong", ErrRecord)
	}
	return m.id, m.role, nil
}
