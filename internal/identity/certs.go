package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// Errors of certificates that a caller decides by.
var (
	ErrForeign = errors.New("the certificate is not of this swarm")
	ErrRemoved = errors.New("it is no member of the swarm any more")
	ErrRole    = errors.New("its role does not allow that")
	ErrPeer    = errors.New("it is another peer than was expected")
)

var (
	always  = time.Unix(0, 0).UTC()
	forever = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func spkiOf(pub any) ([]byte, error) { return x509.MarshalPKIXPublicKey(pub) }

func template(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: always, NotAfter: forever,
		BasicConstraintsValid: true,
	}, nil
}

// newAuthority makes the certificate of a swarm's authority.
func newAuthority(key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	spki, err := spkiOf(key.Public())
	if err != nil {
		return nil, err
	}
	t, err := template("shoal authority " + swarmOf(spki).String())
	if err != nil {
		return nil, err
	}
	t.IsCA, t.MaxPathLen = true, 1
	t.KeyUsage = x509.KeyUsageCertSign
	t.PermittedDNSDomainsCritical, t.PermittedDNSDomains = true, []string{"shoal"}
	return sign(t, t, key.Public(), key)
}

// newIssuer makes the certificate of an issuer.
func newIssuer(pub any, authority *x509.Certificate, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	spki, err := spkiOf(pub)
	if err != nil {
		return nil, err
	}
	t, err := template("shoal issuer " + PeerText(peerOf(spki)))
	if err != nil {
		return nil, err
	}
	t.IsCA, t.MaxPathLenZero = true, true
	t.KeyUsage = x509.KeyUsageCertSign
	return sign(t, authority, pub, key)
}

// newLeaf makes a member's certificate.
func newLeaf(pub any, role Role, swarm SwarmID, issuer *x509.Certificate, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	spki, err := spkiOf(pub)
	if err != nil {
		return nil, err
	}
	id := peerOf(spki)
	t, err := template(PeerShort(id))
	if err != nil {
		return nil, err
	}
	t.Subject.OrganizationalUnit = []string{string(role)}
	t.DNSNames = []string{DNSName(id, swarm)}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return sign(t, issuer, pub, key)
}

func sign(t, parent *x509.Certificate, pub any, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// DNSName returns the only name of a peer's certificate.
func DNSName(id PeerID, swarm SwarmID) string { return PeerText(id) + "." + swarm.String() + ".shoal" }

// member is what a chain proves of its leaf.
type member struct {
	id     PeerID
	issuer PeerID
	role   Role
	key    *ecdsa.PublicKey
}

// verify says who a leaf is, whose issuer the swarm's authority has signed. Dates are not looked at.
func verify(authority, issuer, leaf *x509.Certificate) (m member, err error) {
	foreign := func(why string) error { return fmt.Errorf("%w: %s", ErrForeign, why) }
	if !issuer.IsCA || !issuer.BasicConstraintsValid || issuer.CheckSignatureFrom(authority) != nil {
		return m, foreign("its issuer is not the authority's")
	}
	if leaf.IsCA || leaf.CheckSignatureFrom(issuer) != nil {
		return m, foreign("the issuer has not signed it")
	}
	m.key, _ = leaf.PublicKey.(*ecdsa.PublicKey)
	if m.key == nil || m.key.Curve != elliptic.P256() {
		return m, foreign("its key is no P-256 key")
	}
	m.id, m.issuer = peerOf(leaf.RawSubjectPublicKeyInfo), peerOf(issuer.RawSubjectPublicKeyInfo)
	swarm := swarmOf(authority.RawSubjectPublicKeyInfo)
	if len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != DNSName(m.id, swarm) {
		return m, foreign("it has another name")
	}
	if len(leaf.Subject.OrganizationalUnit) != 1 || !Role(leaf.Subject.OrganizationalUnit[0]).valid() {
		return m, foreign("it has no role")
	}
	m.role = Role(leaf.Subject.OrganizationalUnit[0])
	return m, nil
}

// checkAuthority makes sure that a certificate is the authority of a swarm.
func checkAuthority(c *x509.Certificate, swarm SwarmID) error {
	if swarmOf(c.RawSubjectPublicKeyInfo) != swarm || !c.IsCA || c.CheckSignatureFrom(c) != nil {
		return fmt.Errorf("%w: its authority is another", ErrForeign)
	}
	return nil
}

func pemOf(kind string, der ...[]byte) []byte {
	var b bytes.Buffer
	for _, d := range der {
		_ = pem.Encode(&b, &pem.Block{Type: kind, Bytes: d})
	}
	return b.Bytes()
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pemOf("PRIVATE KEY", der), nil
}

func parseKey(b []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("it holds no key")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("its key cannot be read") // an error's text could tell of the key
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("its key is no P-256 key")
	}
	return key, nil
}

func parseCerts(b []byte) (out []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("it holds no certificate")
	}
	return out, nil
}

// nameOfSNI takes the swarm out of a server name: the label before "shoal".
func nameOfSNI(name string) (SwarmID, bool) {
	labels := strings.Split(name, ".")
	if len(labels) != 3 || labels[2] != "shoal" {
		return SwarmID{}, false
	}
	id, err := ParseSwarm(labels[1])
	return id, err == nil
}
