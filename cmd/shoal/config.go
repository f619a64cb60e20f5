package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"shoal/internal/daemon"

	"github.com/BurntSushi/toml"
	"github.com/dustin/go-humanize"
)

// peerConfig is the configuration file of the long-running peer. README.md shows one; docs/adr/0001-peer-configuration.md says why
// it is as it is. What a flag says too, the flag decides.
type peerConfig struct {
	Listen       string       `toml:"listen"`   // where other peers are served
	Web          *string      `toml:"web"`      // where the API is; empty: nowhere
	WebCert      string       `toml:"web-cert"` // a certificate for it, and its key
	WebKey       string       `toml:"web-key"`
	WebNames     []string     `toml:"web-names"`     // by which browsers reach it
	ServerListen *string      `toml:"server-listen"` // where the swarm server listens, if this machine is one; empty: nowhere
	Folders      []string     `toml:"folders"`       // whose files are shared
	Swarm        string       `toml:"swarm"`         // in which, if this machine is in several
	Roots        []string     `toml:"roots"`         // below which the page may share and save
	Reserve      string       `toml:"reserve"`       // of each disk, what downloads leave free; empty: 1 GiB, or 2 % of a small one
	Limits       limitsConfig `toml:"limits"`
}

type limitsConfig struct {
	ratesConfig
	Window []windowConfig `toml:"window"`
}

type ratesConfig struct {
	Up       string `toml:"up"`
	Down     string `toml:"down"`
	PeerUp   string `toml:"peer-up"` // of any one peer
	PeerDown string `toml:"peer-down"`
}

type windowConfig struct {
	ratesConfig
	Days string `toml:"days"`
	From string `toml:"from"`
	To   string `toml:"to"`
}

// configError is a configuration file that makes no sense.
type configError struct {
	path string
	err  error
}

func (e *configError) Error() string { return e.path + ": " + e.err.Error() }
func (e *configError) Unwrap() error { return e.err }

// defaultConfig returns where the configuration file is looked for.
func defaultConfig() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "shoal", "peer.toml")
}

// readConfig reads a configuration file; it may be missing unless the user has named it.
func readConfig(path string, named bool) (c peerConfig, err error) {
	err = checkSafe(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return peerConfig{}, nil
	}
	var meta toml.MetaData
	if err == nil {
		meta, err = toml.DecodeFile(path, &c)
	}
	if err == nil && len(meta.Undecoded()) > 0 {
		err = fmt.Errorf("%s is no setting", meta.Undecoded()[0])
	}
	if err == nil {
		_, err = c.settings()
	}
	if err != nil {
		return c, &configError{path, err}
	}
	return c, nil
}

// settings are what a reload can change.
func (c *peerConfig) settings() (s daemon.Settings, err error) {
	for _, f := range c.Folders {
		path, err := filepath.Abs(f)
		if err != nil {
			return s, err
		}
		s.Folders = append(s.Folders, path)
	}
	s.Swarm = c.Swarm
	if s.Reserve, err = parseSize(c.Reserve); c.Reserve == "" {
		s.Reserve = -1
	} else if err != nil {
		return s, fmt.Errorf("reserve: %w", err)
	}
	if s.Limits.Rates, err = c.Limits.rates(); err != nil {
		return s, fmt.Errorf("limits: %w", err)
	}
	for _, w := range c.Limits.Window {
		win, err := w.window()
		if err != nil {
			return s, fmt.Errorf("limits.window: %w", err)
		}
		s.Limits.Windows = append(s.Limits.Windows, win)
	}
	return s, s.Limits.Check()
}

func (c ratesConfig) rates() (r daemon.Rates, err error) {
	for _, f := range []struct {
		text string
		to   *int64
	}{{c.Up, &r.Up}, {c.Down, &r.Down}, {c.PeerUp, &r.PeerUp}, {c.PeerDown, &r.PeerDown}} {
		if *f.to, err = parseSize(strings.TrimSuffix(f.text, "/s")); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (c windowConfig) window() (w daemon.Window, err error) {
	if w.Rates, err = c.rates(); err != nil {
		return w, err
	}
	if w.Days, err = daemon.ParseDays(c.Days); err != nil {
		return w, err
	}
	if w.From, err = daemon.ParseClock(c.From); err != nil {
		return w, err
	}
	w.To, err = daemon.ParseClock(c.To)
	return w, err
}

// parseSize reads "10MiB"; the empty text is 0.
func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := humanize.ParseBytes(s)
	if err != nil || n > 1<<62 {
		return 0, fmt.Errorf("%q is no size: 10MiB, 1GB", s)
	}
	return int64(n), nil
}

// roots are the folders that the page may use: those of the configuration, or the user's own.
func (c *peerConfig) roots() []string {
	if len(c.Roots) > 0 {
		return c.Roots
	}
	if home, err := os.UserHomeDir(); err == nil {
		return []string{home}
	}
	return nil
}
