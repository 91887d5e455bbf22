package lab

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Replay describes how a load is recorded and how the recording is replayed.
type Replay struct {
	// Recorder is the command that records until it is interrupted, run on the production host:
	// RecordedFile among its arguments is the name of the file. Empty: tcpcopy record. Ready is how
	// the line on stderr begins by which it has begun.
	Recorder []string
	Ready    string
	// Prepare makes of the recorded file those that are replayed. Nil: itself.
	Prepare func(file string) ([]string, error)
}

// RecordedFile stands for the name of the file in Replay.Recorder.
const RecordedFile = "FILE"

// mostReplay is how long a replay may take.
const mostReplay = 3 * time.Minute

// startRecorder starts the command that records the load.
func (r *run) startRecorder(ctx context.Context) (err error) {
	p := r.options.Replay
	if len(p.Recorder) == 0 {
		r.recorder, err = r.start(ctx, r.net.Production, "record", []string{"record", "-x",
			fmt.Sprint(productionPort), "-o", r.recordingFile()})
		return err
	}
	args := slices.Clone(p.Recorder[1:])
	for i, a := range args {
		if a == RecordedFile {
			args[i] = r.recordingFile()
		}
	}
	r.recorder, err = r.startProgram(ctx, r.net.Production, p.Recorder[0], "record", p.Ready, args)
	return err
}

func (r *run) recordingFile() string { return r.file("load.pcapng") }

// replayLoad ends the recording, replays it and waits for the end of the replay.
func (r *run) replayLoad(ctx context.Context) error {
	r.wait(ctx, 200*time.Millisecond) // what the clients sent last is on its way to the recorder
	if done := r.recorder.stop(); done.ExitCode != 0 {
		return fmt.Errorf("record: exit code %d: %v", done.ExitCode, done.Stderr)
	}
	r.recording = []string{r.recordingFile()}
	if prepare := r.options.Replay.Prepare; prepare != nil {
		var err error
		if r.recording, err = prepare(r.recordingFile()); err != nil {
			return fmt.Errorf("prepare recording: %w", err)
		}
	}
	if err := r.startCopier(ctx); err != nil {
		return err
	}
	for end := r.clock.now() + mostReplay; !r.copier.hasEnded() && ctx.Err() == nil; {
		if r.clock.now() > end {
			return fmt.Errorf("replay: did not end within %v", mostReplay)
		}
		r.wait(ctx, 20*time.Millisecond)
	}
	r.wait(ctx, quietAtLeast)
	return nil
}
