package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// certLife is how long a certificate that is made here is good, certRest how much of it must be left at the start.
	certLife = 10 * 365 * 24 * time.Hour
	certRest = 30 * 24 * time.Hour
)

// OwnCertificate returns the certificate of a state folder for these names and addresses, which is made if there is none, it lacks one of
// them, or it ends soon. It is signed by itself: browsers ask once, and show its fingerprint.
func OwnCertificate(dir string, names []string) (tls.Certificate, error) {
	file := filepath.Join(dir, "web-certificate.pem")
	cert, err := tls.LoadX509KeyPair(file, file)
	if err == nil && time.Until(cert.Leaf.NotAfter) > certRest && covers(cert.Leaf, names) {
		return cert, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return cert, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cert, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return cert, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "shoal page"}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(certLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return cert, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return cert, err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
	if err := writeSecret(file, text); err != nil {
		return cert, err
	}
	return tls.LoadX509KeyPair(file, file)
}

func covers(cert *x509.Certificate, names []string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return cert.VerifyHostname(n) != nil })
}

// Fingerprint is a certificate's SHA-256 as browsers show it.
func Fingerprint(cert tls.Certificate) string {
	sum := sha256.Sum256(cert.Certificate[0])
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}

// GivenCertificate is one that lies in files, which are read again when they have changed; while those are wrong, the old one is used.
type GivenCertificate struct {
	cert, key string

	mu     sync.Mutex // guards what follows
	loaded tls.Certificate
	stamps [2]time.Time
}

// NewGivenCertificate reads a certificate.
func NewGivenCertificate(cert, key string) (*GivenCertificate, error) {
	g := &GivenCertificate{cert: cert, key: key}
	loaded, err := tls.LoadX509KeyPair(cert, key)
	g.loaded, g.stamps = loaded, g.look()
	return g, err
}

func (g *GivenCertificate) look() (out [2]time.Time) {
	for i, file := range []string{g.cert, g.key} {
		if fi, err := os.Stat(file); err == nil {
			out[i] = fi.ModTime()
		}
	}
	return out
}

// Get returns the certificate, as TLS asks for it.
func (g *GivenCertificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := g.look(); now != g.stamps {
		if fresh, err := tls.LoadX509KeyPair(g.cert, g.key); err == nil {
			g.loaded, g.stamps = fresh, now
		}
	}
	cert := g.loaded
	return &cert, nil
}

// Names are those that the certificate is for.
func (g *GivenCertificate) Names() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.loaded.Leaf.DNSNames
}

// secured is a listener whose connections are to be encrypted.
type secured struct {
	net.Listener
	config *tls.Config
}

// Secure has connections that come over a listener encrypted, when it is served.
func Secure(ln net.Listener, cert func(*tls.ClientHelloInfo) (*tls.Certificate, error)) net.Listener {
	return &secured{ln, &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}, GetCertificate: cert}}
}

// atLocal says whether an encrypted request names the very address at which it has arrived: no other page's name can lead a browser to say that.
func atLocal(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if r.TLS == nil || local == nil {
		return false
	}
	host, err := netip.ParseAddrPort(r.Host)
	if err != nil { // the usual port is left out
		ip, err := netip.ParseAddr(strings.Trim(r.Host, "[]"))
		if err != nil {
			return false
		}
		host = netip.AddrPortFrom(ip, 443)
	}
	at := local.AddrPort()
	return host.Port() == at.Port() && host.Addr().Unmap() == at.Addr().Unmap().WithZone("")
}
