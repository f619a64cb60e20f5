package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// What others could write decides nothing: it could name any folder as one that the page may use.
func TestAConfigurationThatOthersCanWriteIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("left out: who may write is not known of a mode here")
	}
	path := filepath.Join(t.TempDir(), "peer.toml")
	if err := os.WriteFile(path, []byte("roots = ['/']\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, good := range map[os.FileMode]bool{0o600: true, 0o644: true, 0o444: true, 0o664: false, 0o646: false, 0o666: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var wrong *configError
		_, err := readConfig(path, true)
		if (err == nil) != good || !good && (!errors.As(err, &wrong) || !strings.Contains(err.Error(), "chmod go-w")) {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file to somebody else")
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.Chown(path, 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	if _, err := readConfig(path, true); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("another user's: %v", err)
	}
}

func TestTheConfigurationFile(t *testing.T) {
	if _, err := readConfig(filepath.Join(t.TempDir(), "none"), false); err != nil {
		t.Errorf("one that nobody has named may be missing: %v", err)
	}
	if c, err := readConfig("../../deploy/peer.toml", true); err != nil || len(c.Roots) != 1 || c.Reserve != "1GiB" {
		t.Errorf("the one that is shipped: %+v, %v", c, err)
	}
	const broken = "reserve = '10MB'\nfolders = ['/srv'"
	path := filepath.Join(t.TempDir(), "peer.toml")
	for text, good := range map[string]bool{
		"reserve = '10MB'\n[limits]\nup = '1MiB/s'\npeer-up = '2MiB/s'\n[[limits.window]]\ndays = 'sat,sun'\nfrom = '22:00'\nto = '06:00'\ndown = '5kB'\n": true,
		"listen = 5": false, "reserve = 'much'": false, "[limits]\nup = '-1'": false, "nonsense = 1": false, "[[limits.window]]\nfrom = '25:00'\nto = '1:00'": false,
		"[[limits.window]]\nfrom = '01:00'\nto = '02:00'\ndays = 'someday'": false, "folders = ": false, broken: false,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := readConfig(path, true)
		if (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
		var wrong *configError
		if !good && !errors.As(err, &wrong) {
			t.Errorf("%q: %T", text, err)
		}
		if text == broken && !strings.Contains(err.Error(), "line 2") {
			t.Errorf("it does not say where: %v", err)
		}
		if s, _ := c.settings(); good && (s.Reserve != 10_000_000 || s.Limits.Up != 1<<20 || s.Limits.PeerUp != 2<<20 || s.Limits.Windows[0].Down != 5000 || s.Limits.Windows[0].From != 22*60) {
			t.Errorf("%+v", s)
		}
	}
}

// Nobody can put anything into it.
func TestNoConfigurationIsSafe(t *testing.T) {
	if _, err := readConfig(os.DevNull, true); err != nil {
		t.Error(err)
	}
}
