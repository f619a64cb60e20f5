//go:build !linux

package main

// notifier tells nobody: there is no systemd here.
type notifier struct{}

func newNotifier() *notifier           { return &notifier{} }
func (n *notifier) say(string, ...any) {}
func (n *notifier) beat(string)        {}
func (n *notifier) reloading()         {}
func (n *notifier) close()             {}
