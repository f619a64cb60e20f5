package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// Protocol is what TLS calls our frames.
const Protocol = "shoal/2"

// Peer says whom a connection is for: a peer by its id, any server, or any member, whose id is then learned.
type Peer struct {
	ID     PeerID
	Server bool
	Any    bool
}

// Certificate returns this machine's certificate and key, as TLS wants them.
func (s *Swarm) Certificate() tls.Certificate {
	return tls.Certificate{
		Certificate: [][]byte{s.leaf.Raw, s.issuer.Raw, s.authority.Raw}, PrivateKey: s.key, Leaf: s.leaf,
	}
}

func base(cert *tls.Certificate) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	return c
}

// ClientConfig is for a connection of frames to a peer of this swarm.
func (s *Swarm) ClientConfig(want Peer) *tls.Config {
	cert := s.Certificate()
	c := base(&cert)
	c.NextProtos = []string{Protocol}
	c.ServerName = "server." + s.id.String() + ".shoal"
	switch {
	case want.Any:
		c.ServerName = "any." + s.id.String() + ".shoal"
	case !want.Server:
		c.ServerName = DNSName(want.ID, s.id)
	}
	c.InsecureSkipVerify = true // #nosec G402 -- VerifyConnection does it, without dates
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if cs.NegotiatedProtocol != Protocol {
			return errors.New("the other side does not speak " + Protocol)
		}
		m, err := s.verify(cs)
		switch {
		case err != nil:
			return err
		case want.Server && m.role != ServerRole:
			return fmt.Errorf("%w: it is no server", ErrRole)
		case !want.Server && !want.Any && m.id != want.ID:
			return ErrPeer
		}
		return nil
	}
	return c
}

// ServerConfig is for a port that members of this swarm connect to: frames want a certificate, HTTP may come without.
func (s *Swarm) ServerConfig() *tls.Config {
	cert := s.Certificate()
	c := base(&cert)
	c.NextProtos = []string{Protocol, "h2", "http/1.1"}
	c.ClientAuth = tls.RequestClientCert
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if cs.ServerName != "" {
			if id, ok := nameOfSNI(cs.ServerName); ok && id != s.id {
				return fmt.Errorf("%w: it is for another swarm", ErrForeign)
			}
		}
		if len(cs.PeerCertificates) == 0 && cs.NegotiatedProtocol != Protocol {
			return nil
		}
		_, err := s.verify(cs)
		return err
	}
	return c
}

// JoinConfig is for a connection to a server of the swarm of a link, which is recognised by its fingerprint.
func JoinConfig(swarm SwarmID) *tls.Config {
	c := base(nil)
	c.NextProtos = []string{"http/1.1"}
	c.ServerName = "server." + swarm.String() + ".shoal"
	c.InsecureSkipVerify = true // #nosec G402 -- VerifyConnection does it
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) != 3 {
			return fmt.Errorf("%w: it has no chain", ErrForeign)
		}
		if err := checkAuthority(cs.PeerCertificates[2], swarm); err != nil {
			return err
		}
		m, err := verify(cs.PeerCertificates[2], cs.PeerCertificates[1], cs.PeerCertificates[0])
		if err != nil {
			return err
		}
		if m.role != ServerRole {
			return fmt.Errorf("%w: it is no server", ErrRole)
		}
		return nil
	}
	return c
}

// PeerOf says who is at the other end of a connection.
func (s *Swarm) PeerOf(cs tls.ConnectionState) (PeerID, Role, error) {
	m, err := s.verify(cs)
	return m.id, m.role, err
}

func (s *Swarm) verify(cs tls.ConnectionState) (member, error) {
	return s.verifyChain(cs.PeerCertificates)
}

func (s *Swarm) verifyChain(chain []*x509.Certificate) (member, error) {
	if len(chain) < 2 || len(chain) > 3 {
		return member{}, fmt.Errorf("%w: it has no chain", ErrForeign)
	}
	m, err := verify(s.authority, chain[1], chain[0])
	if err != nil {
		return m, err
	}
	if s.IsRemoved(m.id) || s.IsRemoved(m.issuer) {
		return m, ErrRemoved
	}
	return m, nil
}
