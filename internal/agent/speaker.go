// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"weft/internal/bgp"
)

// How the speaker is looked after.
const (
	speakerEvery   = 500 * time.Millisecond // looked at
	speakerWithin  = 10 * time.Second       // a new one answers
	speakerBackoff = 30 * time.Second       // at most, before one that ended at once is started again
)

// speaker looks after the BGP speaker of the node: a process of its own that is started if it is not there (unless the service
// manager does that), found again if it is, and never ended.
type speaker struct {
	cfg    Config
	client *bgp.Client

	mu      sync.Mutex
	problem string // what is wrong with it; "": nothing
}

func newSpeaker(cfg Config) *speaker {
	return &speaker{cfg: cfg, client: bgp.NewClient(filepath.Join(cfg.RunDir, "bgp.sock"))}
}

// wrong says what is wrong with the speaker; "": nothing.
func (s *speaker) wrong() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problem
}

func (s *speaker) note(problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if problem != "" && problem != s.problem {
		s.cfg.Log.Error("the BGP speaker", "problem", problem)
	}
	s.problem = problem
}

// run looks after the speaker until ctx ends; where the node has no BGP configuration, it does nothing.
func (s *speaker) run(ctx context.Context) {
	if s.cfg.BGPConfig == "" {
		return
	}
	found := 0 // process
	for wait := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		st, err := s.client.State(ctx)
		switch {
		case err == nil:
			if st.PID != found {
				s.cfg.Log.Info("the BGP speaker is there", "process", st.PID, "version", st.Version, "since", st.Since)
			}
			found = st.PID
			s.note("")
			wait = speakerEvery
		case s.cfg.SpeakerUnit && ctx.Err() == nil:
			s.note(fmt.Sprintf("it does not answer: %v; see systemctl status weft-bgp", err))
			wait = time.Second
		case errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist):
			if err := s.start(ctx); err != nil && ctx.Err() == nil {
				s.note(err.Error())
				wait = min(max(2*wait, time.Second), speakerBackoff)
			}
		case ctx.Err() == nil: // it is there, and does not answer: a second one would not help
			s.note(err.Error())
			wait = time.Second
		}
	}
}

// start runs a speaker in a session of its own, and waits until it answers.
func (s *speaker) start(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	program = strings.TrimSuffix(program, " (deleted)") // another version is in its place
	logFile := filepath.Join(s.cfg.StateDir, "bgp.log")
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start it: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(program, "bgp", "--config", s.cfg.BGPConfig, "--socket", filepath.Join(s.cfg.RunDir, "bgp.sock"))
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start it: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the log says why
		close(ended)
	}()
	for deadline := time.Now().Add(speakerWithin); ; {
		if _, err := s.client.State(ctx); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil // whoever looks after the node next finds it
		case <-ended:
			return fmt.Errorf("it ended at once: %s (see %s)", lastLine(logFile), logFile)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not answer within %s: see %s", speakerWithin, logFile)
		}
	}
}

// lastLine is the last line of a file, cut to a length that fits in a status.
func lastLine(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	data = bytes.TrimRight(data, "\n")
	line := string(data[bytes.LastIndexByte(data, '\n')+1:])
	return line[:min(len(line), 300)]
}
