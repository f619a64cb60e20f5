package identity

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"shoal/internal/content"
)

// Errors of the state folder that a caller decides by.
var (
	ErrState      = errors.New("the state folder cannot be used")
	ErrStateNewer = errors.New("it was written by a later version of shoal")
	ErrNoIssuer   = errors.New("this machine does not have the swarm's issuer key: run it where the server runs")
)

const (
	stateVersion = "1\n"
	maxStateFile = 64 << 20
)

// States is the folder in which a machine keeps its swarms.
type States struct{ dir string }

// OpenStates opens a folder, which must be its owner's alone. One that is missing is made when there is something to keep.
func OpenStates(dir string) (*States, error) {
	for _, d := range []string{dir, filepath.Join(dir, "swarms")} {
		if err := checkOwn(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return &States{dir}, nil
}

// makeFolder makes the folder of a swarm.
func (st *States) makeFolder(id SwarmID) (path string, err error) {
	path = st.folder(id)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", err
	}
	return path, checkOwn(path)
}

// checkOwn refuses what others may read or write, as ssh does.
func checkOwn(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !isOurs(fi) {
		return fmt.Errorf("%w: %s belongs to another user", ErrState, path)
	}
	if wide(fi) {
		mode := "600"
		if fi.IsDir() {
			mode = "700"
		}
		return fmt.Errorf("%w: others may use %s (mode %04o): chmod %s %s", ErrState, path, fi.Mode().Perm(), mode, path)
	}
	return nil
}

// Dir returns the folder's path.
func (st *States) Dir() string { return st.dir }

func (st *States) folder(id SwarmID) string { return filepath.Join(st.dir, "swarms", id.String()) }

// List returns the swarms of this machine, the one that was joined last first.
func (st *States) List() (out []*Swarm, err error) {
	entries, err := os.ReadDir(filepath.Join(st.dir, "swarms"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		id, err := ParseSwarm(e.Name())
		if err != nil || !e.IsDir() {
			continue
		}
		s, err := st.Swarm(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a join that has not been finished
		}
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *Swarm) int { return b.joined.Compare(a.joined) })
	return out, nil
}

// Swarm is one swarm, as this machine takes part in it. Its methods may be called from any goroutine.
type Swarm struct {
	dir       string
	id        SwarmID
	authority *x509.Certificate
	issuer    *x509.Certificate
	leaf      *x509.Certificate
	chain     [][]byte // leaf and issuer, as each offer of ours has them; never changed
	key       *ecdsa.PrivateKey
	self      member
	joined    time.Time

	mu       sync.Mutex // guards what follows
	removals removals
	records  map[string]member // chains that have been verified, by their bytes
}

// Swarm opens the state of one swarm. One that this machine has not joined is fs.ErrNotExist.
func (st *States) Swarm(id SwarmID) (*Swarm, error) {
	s := &Swarm{dir: st.folder(id), id: id, records: make(map[string]member)}
	fi, err := os.Stat(filepath.Join(s.dir, "leaf.pem"))
	if err != nil {
		return nil, err
	}
	s.joined = fi.ModTime()
	if err := checkOwn(s.dir); err != nil {
		return nil, err
	}
	version, err := s.read("version")
	if err != nil {
		return nil, err
	}
	if string(version) != stateVersion {
		return nil, fmt.Errorf("%s: %w", s.dir, ErrStateNewer)
	}
	for _, f := range []struct {
		name string
		to   **x509.Certificate
	}{{"authority.pem", &s.authority}, {"issuer.pem", &s.issuer}, {"leaf.pem", &s.leaf}} {
		if *f.to, err = s.cert(f.name); err != nil {
			return nil, err
		}
	}
	s.chain = [][]byte{s.leaf.Raw, s.issuer.Raw}
	if s.key, err = s.keyFile("leaf.key"); err != nil {
		return nil, err
	}
	if err := checkAuthority(s.authority, id); err != nil {
		return nil, fmt.Errorf("%s: %w", s.dir, err)
	}
	if s.self, err = verify(s.authority, s.issuer, s.leaf); err != nil {
		return nil, fmt.Errorf("%s: %w", s.dir, err)
	}
	if !s.self.key.Equal(s.key.Public()) {
		return nil, fmt.Errorf("%w: leaf.key and leaf.pem in %s do not belong together", ErrState, s.dir)
	}
	return s, nil
}

// Create makes a new swarm, whose authority, issuer and first server is this machine.
func (st *States) Create() (*Swarm, error) {
	var keys [3]*ecdsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = newKey(); err != nil {
			return nil, err
		}
	}
	authority, err := newAuthority(keys[0])
	if err != nil {
		return nil, err
	}
	issuer, err := newIssuer(keys[1].Public(), authority, keys[0])
	if err != nil {
		return nil, err
	}
	id := swarmOf(authority.RawSubjectPublicKeyInfo)
	leaf, err := newLeaf(keys[2].Public(), ServerRole, id, issuer, keys[1])
	if err != nil {
		return nil, err
	}
	dir, err := st.makeFolder(id)
	if err != nil {
		return nil, err
	}
	s := &Swarm{dir: dir, id: id}
	for i, name := range []string{"authority.key", "issuer.key", "leaf.key"} {
		b, err := keyPEM(keys[i])
		if err != nil {
			return nil, err
		}
		if err := s.write(name, b); err != nil {
			return nil, err
		}
	}
	if err := s.writeChain(authority, issuer, leaf); err != nil {
		return nil, err
	}
	return st.Swarm(id)
}

// writeChain writes the certificates; the leaf, by which the swarm counts as joined, last.
func (s *Swarm) writeChain(authority, issuer, leaf *x509.Certificate) error {
	return errors.Join(
		s.write("version", []byte(stateVersion)),
		s.write("authority.pem", pemOf("CERTIFICATE", authority.Raw)),
		s.write("issuer.pem", pemOf("CERTIFICATE", issuer.Raw)),
		s.write("leaf.pem", pemOf("CERTIFICATE", leaf.Raw)),
	)
}

// read reads a file of the folder, which must be its owner's alone.
func (s *Swarm) read(name string) ([]byte, error) {
	path := filepath.Join(s.dir, name)
	if err := checkOwn(path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxStateFile))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}

// write replaces a file of the folder, so that a crash leaves the old one or the new one.
func (s *Swarm) write(name string, b []byte) error {
	f, err := os.CreateTemp(s.dir, "."+name+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(s.dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncFolder(s.dir)
}

func (s *Swarm) broken(name string, err error) error {
	return fmt.Errorf("%w: %s: %w; restore it, or move %s away and join again", ErrState, filepath.Join(s.dir, name), err, s.dir)
}

func (s *Swarm) cert(name string) (*x509.Certificate, error) {
	b, err := s.read(name)
	if err != nil {
		return nil, err
	}
	certs, err := parseCerts(b)
	if err != nil {
		return nil, s.broken(name, err)
	}
	return certs[0], nil
}

func (s *Swarm) keyFile(name string) (*ecdsa.PrivateKey, error) {
	b, err := s.read(name)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(b)
	if err != nil {
		return nil, s.broken(name, err)
	}
	return key, nil
}

// readJSON reads a file that may be missing.
func (s *Swarm) readJSON(name string, v any) error {
	b, err := s.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return s.broken(name, err)
	}
	return nil
}

func (s *Swarm) writeJSON(name string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return s.write(name, append(b, '\n'))
}

// locked does something while no other process changes the folder.
func (s *Swarm) locked(do func() error) error {
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := lockFile(f); err != nil {
		return err
	}
	return do()
}

// ErrServing says that another process of this machine is the swarm's server already.
var ErrServing = errors.New("the swarm's server is running on this machine already")

// Serving makes this process the only one that is this swarm's server here, until the returned lock is closed.
func (s *Swarm) Serving() (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "serving"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if tryLock(f) != nil {
		f.Close()
		return nil, ErrServing
	}
	return f, nil
}

// ID returns what the swarm is recognised by.
func (s *Swarm) ID() SwarmID { return s.id }

// Dir returns the swarm's folder.
func (s *Swarm) Dir() string { return s.dir }

// Self returns this machine's id.
func (s *Swarm) Self() PeerID { return s.self.id }

// Role returns this machine's role.
func (s *Swarm) Role() Role { return s.self.role }

// IsServer says whether this machine can let others in.
func (s *Swarm) IsServer() bool {
	_, err := os.Stat(filepath.Join(s.dir, "issuer.key"))
	return err == nil
}

// AuthorityPath returns where the authority's certificate lies, for tools that want to pin it.
func (s *Swarm) AuthorityPath() string { return filepath.Join(s.dir, "authority.pem") }

// Servers returns the addresses of the swarm's servers.
func (s *Swarm) Servers() []string {
	b, err := s.read("servers")
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
}

// SetServers keeps the addresses of the swarm's servers.
func (s *Swarm) SetServers(addrs []string) error {
	return s.write("servers", []byte(strings.Join(addrs, "\n")+"\n"))
}

// ExportAuthority writes the authority's certificate and key, to be kept offline.
func (s *Swarm) ExportAuthority(w io.Writer) error {
	for _, name := range []string{"authority.pem", "authority.key"} {
		b, err := s.read(name)
		if err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// RemoveAuthorityKey removes the authority's key from this machine.
func (s *Swarm) RemoveAuthorityKey() error { return os.Remove(filepath.Join(s.dir, "authority.key")) }

// Link returns a link to this swarm, with a token or without, for a content or none.
func (s *Swarm) Link(token Token, name string, id content.Prefix) Link {
	return Link{Addrs: s.Servers(), Swarm: s.id, Token: token, Name: name, ID: id}
}

// HTTPToken returns the token with which contents of this machine can be read by HTTP.
func (s *Swarm) HTTPToken() (token string, err error) {
	err = s.locked(func() error {
		b, err := s.read("http-token")
		if err == nil && len(b) == 27 {
			token = strings.TrimSpace(string(b))
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		var secret [16]byte
		_, _ = rand.Read(secret[:])
		token = b32.EncodeToString(secret[:])
		return s.write("http-token", []byte(token+"\n"))
	})
	return token, err
}

// CheckHTTPToken says whether a token is the one that [Swarm.HTTPToken] returns.
func (s *Swarm) CheckHTTPToken(token string) bool {
	b, err := s.read("http-token")
	return err == nil && len(b) == 27 && subtle.ConstantTimeCompare(b[:26], []byte(token)) == 1
}
