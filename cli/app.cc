// SPDX-License-Identifier: Apache-2.0
// The only file that includes CLI11, which is slow to compile.
#include "cli/app.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <iostream>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "cli/bench.h"
#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/exit_codes.h"
#include "cli/models.h"
#include "cli/options.h"

namespace lockstep::cli {

namespace {

// A signal handler can reach nothing else.
std::atomic<bool> g_interrupted{false};

void OnInterrupt(int) {
  // The second one ends the program at once.
  if (g_interrupted.exchange(true)) _exit(kInterrupted);
}

constexpr const char* kDeviceHelp = "AUTO: a GPU where there is one; CPU, CUDA, or CUDA:1 for the second GPU";

constexpr const char* kFooter =
    "Exit status:\n"
    "  0 succeeded   1 the job failed, or audit, diff or verify found something wrong\n"
    "  2 wrong usage or a refused job   3 the job was cancelled   4 not found\n"
    "  5 no answer from the server   6 not possible in this state   130 interrupted\n"
    "\n"
    "Environment: LOCKSTEP_SERVER, LOCKSTEP_DATA_DIR, NO_COLOR. Configuration: ~/.config/lockstep/config.yaml\n"
    "(key `server`).";

int TerminalWidth() {
  if (!isatty(STDERR_FILENO)) return 0;
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

struct Arguments {
  std::string server, config, output = "table", job, file, what, folder, request_id, reason, shell;
  double timeout = 10;
  bool no_color = false, ascii = false, follow = false;
  int limit = 50;
  int64_t train = 60'000, test = 10'000;
  uint64_t seed = 1;
  std::vector<std::string> states;
  SubmitArguments submit;
  RunArguments run;
  ResumeArguments resume;
  VerifyArguments verify;
  ExportArguments export_model;
  EvalArguments eval;
  PredictArguments predict;
  BenchGemmArguments bench_gemm;
  BenchStepArguments bench_step;
  BenchAllreduceArguments bench_allreduce;
  BenchStartArguments bench_start;
  std::string other_job;
  int workers = 0;
};

// The command that was chosen; set while the arguments are read.
using Command = std::function<int(const Options&)>;

void AddJobCommands(CLI::App& app, Arguments& a, Command& command) {
  CLI::App* submit = app.add_subcommand("submit", "Submit a job file to the coordinator");
  submit->add_option("file", a.submit.file, "Job file (YAML or JSON), - for standard input")->required();
  submit->add_option("-s,--set", a.submit.overrides, "Override a field: training.epochs=1")->allow_extra_args(false);
  submit->add_option("--request-id", a.submit.request_id, "A repeat with the same id is the same job");
  submit->add_flag("-w,--watch", a.submit.watch, "Follow the job to its end");
  submit->add_flag("--dry-run", a.submit.dry_run, "Check only");
  submit->callback([&] { command = [&](const Options& o) { return Submit(o, a.submit, &g_interrupted); }; });

  CLI::App* run = app.add_subcommand("run", "Run a job here: start a coordinator, train, stop it");
  run->add_option("file", a.run.file, "Job file (YAML or JSON)")->required();
  run->add_option("-s,--set", a.run.overrides, "Override a field: training.epochs=1")->allow_extra_args(false);
  run->add_option("--out", a.run.folder, "Folder for state and results (default ./lockstep-runs/<name>-<n>)");
  run->add_option("--slots", a.run.slots, "Workers that may run at once (default: as many as the job asks for)");
  run->callback([&] { command = [&](const Options& o) { return Run(o, a.run, &g_interrupted); }; });

  CLI::App* summary = app.add_subcommand("summary", "Print a job's layers, shapes and parameters");
  summary->add_option("file", a.submit.file, "Job file")->required();
  summary->add_option("-s,--set", a.submit.overrides, "Override a field")->allow_extra_args(false);
  summary->callback([&] { command = [&](const Options& o) { return Summary(o, a.submit.file, a.submit.overrides); }; });

  CLI::App* plan = app.add_subcommand("plan", "Print the memory that each rank of a job will take");
  plan->add_option("file", a.submit.file, "Job file")->required();
  plan->add_option("-s,--set", a.submit.overrides, "Override a field")->allow_extra_args(false);
  plan->callback(
      [&] { command = [&](const Options& o) { return PlanCommand(o, a.submit.file, a.submit.overrides); }; });
}

void AddQueryCommands(CLI::App& app, Arguments& a, Command& command) {
  CLI::App* list = app.add_subcommand("list", "List jobs, newest first");
  list->add_option("--limit", a.limit, "At most so many")->check(CLI::Range(1, 100'000));
  list->add_option("--state", a.states, "Only these states (running, failed, ...)");
  list->callback([&] { command = [&](const Options& o) { return List(o, a.limit, a.states); }; });
  const auto with_job = [&](const char* name, const char* help, std::function<int(const Options&)> action) {
    CLI::App* sub = app.add_subcommand(name, help);
    sub->add_option("job", a.job, "Job id")->required();
    sub->callback([&command, action = std::move(action)] { command = action; });
    return sub;
  };
  with_job("show", "Show one job", [&](const Options& o) { return Show(o, a.job); });
  with_job("watch", "Follow a job to its end",
           [&](const Options& o) { return WatchCommand(o, a.job, &g_interrupted); });
  with_job("cancel", "End a job", [&](const Options& o) {
    return Cancel(o, a.job, a.reason);
  })->add_option("--reason", a.reason, "Shown with the job");
  with_job("logs", "Print what the workers printed", [&](const Options& o) {
    return Logs(o, a.job, a.follow);
  })->add_flag("-f,--follow", a.follow, "Go on until the job ends");
  app.add_subcommand("health", "Ask whether the server serves")->callback([&] { command = Health; });
}

void AddRecoveryCommands(CLI::App& app, Arguments& a, Command& command) {
  CLI::App* scale = app.add_subcommand("scale", "Change a job's number of workers, also while it runs");
  scale->add_option("job", a.job, "Job id")->required();
  scale->add_option("workers", a.workers, "Worker processes")->required()->check(CLI::Range(1, 1024));
  scale->callback([&] { command = [&](const Options& o) { return Scale(o, a.job, a.workers); }; });
  CLI::App* checkpoints = app.add_subcommand("checkpoints", "List a job's checkpoints");
  checkpoints->add_option("job", a.job, "Job id")->required();
  checkpoints->callback([&] { command = [&](const Options& o) { return Checkpoints(o, a.job); }; });
  CLI::App* resume = app.add_subcommand("resume", "Let a job that has ended go on");
  resume->add_option("job", a.resume.job, "Job id")->required();
  resume->add_option("--from", a.resume.from_step, "Step of a checkpoint, 0: the beginning (default: the newest)");
  resume->add_option("--workers", a.resume.workers, "Number of workers (default: as before)")
      ->check(CLI::Range(1, 10'000));
  resume->add_flag("-w,--watch", a.resume.watch, "Follow the job to its end");
  resume->callback([&] { command = [&](const Options& o) { return Resume(o, a.resume, &g_interrupted); }; });
}

void AddAuditCommands(CLI::App& app, Arguments& a, Command& command) {
  CLI::App* audit = app.add_subcommand("audit", "Prove that each sample counted exactly once in each epoch");
  audit->add_option("job", a.job, "Job id")->required();
  audit->callback([&] { command = [&](const Options& o) { return Audit(o, a.job); }; });
  CLI::App* diff = app.add_subcommand("diff", "Find the first step at which two jobs' parameters part");
  diff->add_option("a", a.job, "Job id")->required();
  diff->add_option("b", a.other_job, "Job id")->required();
  diff->callback([&] { command = [&](const Options& o) { return Diff(o, a.job, a.other_job); }; });
  CLI::App* verify = app.add_subcommand("verify", "Do some steps of a job again and compare the parameters");
  verify->add_option("job", a.verify.job, "Job id")->required();
  verify->add_option("--steps", a.verify.steps, "First and last step: 100..200")->required();
  verify->add_option("--workers", a.verify.workers, "Worker processes (default: the job's)")
      ->check(CLI::Range(1, 1024));
  verify->callback([&] { command = [&](const Options& o) { return Verify(o, a.verify, &g_interrupted); }; });
}

void AddModelCommands(CLI::App& app, Arguments& a, Command& command) {
  constexpr const char* kModel = "A model.safetensors, the folder of a job's results or a checkpoint, or a job id";
  CLI::App* to = app.add_subcommand("export", "Write a trained model in another format");
  to->add_option("model", a.export_model.model, kModel)->required();
  to->add_option("--format", a.export_model.format, "onnx (default) or safetensors")
      ->check(CLI::IsMember({"onnx", "safetensors"}));
  to->add_option("--out", a.export_model.out, "File (default model.<format> in this folder)");
  to->callback([&] { command = [&](const Options& o) { return Export(o, a.export_model); }; });

  CLI::App* eval = app.add_subcommand("eval", "Compute a trained model's loss and metrics on a data set");
  eval->add_option("model", a.eval.model, kModel)->required();
  eval->add_option("data", a.eval.data,
                   "A file with a dataset section, as a job file's; or a CSV file, all of whose rows count "
                   "(default: the data set of the model's job)");
  eval->add_option("--data-root", a.eval.data_roots, "Folder in which data sets are looked up first");
  eval->add_flag("--train", a.eval.training_part, "The training samples instead of those held out");
  eval->add_option("--device", a.eval.device, kDeviceHelp);
  eval->add_option("--threads", a.eval.threads, "CPU threads (default: as the job)")->check(CLI::Range(1, 1024));
  eval->callback([&] { command = [&](const Options& o) { return Eval(o, a.eval); }; });

  CLI::App* predict = app.add_subcommand("predict", "Print what a trained model makes of each sample of a file");
  predict->add_option("model", a.predict.model, kModel)->required();
  predict->add_option("file", a.predict.file, "CSV, .npy, .npz:array, IDX (also .gz) or CIFAR .bin")->required();
  predict->add_option("--out", a.predict.out, "File: .csv, or .npy for the model's outputs as they are");
  predict->add_option("--top", a.predict.top, "So many classes, the likeliest first")->check(CLI::Range(1, 1'000'000));
  predict->add_flag("--raw", a.predict.raw, "The model's outputs as they are");
  predict->add_option("--device", a.predict.device, kDeviceHelp);
  predict->add_option("--threads", a.predict.threads, "CPU threads (default: as the job)")->check(CLI::Range(1, 1024));
  predict->callback([&] { command = [&](const Options& o) { return PredictFile(o, a.predict); }; });
}

void AddBenchCommands(CLI::App& app, Arguments& a, Command& command) {
  CLI::App* bench = app.add_subcommand("bench", "Measure this machine, or a job on it")->require_subcommand(1);
  CLI::App* gemm = bench->add_subcommand("gemm", "Products of matrices by size and precision, and each BLAS level");
  gemm->add_option("--device", a.bench_gemm.device, kDeviceHelp);
  gemm->add_option("--sizes", a.bench_gemm.sizes,
                   "N of N x N, separated by commas (default 32 to 2048, on a GPU 128 to 8192)")
      ->delimiter(',')
      ->check(CLI::Range(1, 16'384));
  gemm->add_option("--threads", a.bench_gemm.threads, "CPU threads")->check(CLI::Range(1, 1024));
  gemm->add_option("--seconds", a.bench_gemm.seconds, "For each point")->check(CLI::Range(0.001, 60.0));
  gemm->add_option("--plot", a.bench_gemm.plot, "Draw it into this SVG file");
  gemm->callback([&] { command = [&](const Options& o) { return BenchGemm(o, a.bench_gemm); }; });

  CLI::App* step = bench->add_subcommand("step", "Where the time of a job's step goes, layer by layer");
  step->add_option("file", a.bench_step.file, "Job file (YAML or JSON)")->required();
  step->add_option("-s,--set", a.bench_step.overrides, "Override a field")->allow_extra_args(false);
  step->add_option("--device", a.bench_step.device, kDeviceHelp + std::string(" (default: the job's)"));
  step->add_option("--threads", a.bench_step.threads, "CPU threads (default: the job's)")->check(CLI::Range(1, 1024));
  step->add_option("--seconds", a.bench_step.seconds, "About so long")->check(CLI::Range(0.001, 600.0));
  step->add_option("--plot", a.bench_step.plot, "Draw it into this SVG file");
  step->add_option("--trace", a.bench_step.trace,
                   "Write some steps as a trace into this JSON file, for Perfetto or chrome://tracing");
  step->callback([&] { command = [&](const Options& o) { return BenchStep(o, a.bench_step); }; });

  CLI::App* allreduce = bench->add_subcommand("allreduce", "The sum over ranks by size, beside MPI's");
  allreduce->add_option("--ranks", a.bench_allreduce.ranks, "Processes")->check(CLI::Range(2, 256));
  allreduce->add_option("--max-bytes", a.bench_allreduce.max_bytes, "Largest gradient")
      ->check(CLI::Range(int64_t{4096}, int64_t{1} << 32));
  allreduce->callback([&] { command = [&](const Options& o) { return BenchAllreduce(o, a.bench_allreduce); }; });

  CLI::App* start = bench->add_subcommand("start", "From launch to the end of the first step");
  start->add_option("file", a.bench_start.file, "Job file (YAML or JSON)")->required();
  start->add_option("-s,--set", a.bench_start.overrides, "Override a field")->allow_extra_args(false);
  start->add_option("--runs", a.bench_start.runs, "Starts, whose medians count")->check(CLI::Range(1, 1000));
  start->callback([&] { command = [&](const Options& o) { return BenchStart(o, a.bench_start); }; });
}

void AddOtherCommands(CLI::App& app, Arguments& a, Command& command) {
  CLI::App* data = app.add_subcommand("data", "Bring or make data sets")->require_subcommand(1);
  CLI::App* fetch = data->add_subcommand("fetch", "Download a data set, checked by its SHA-256");
  fetch->add_option("set", a.what, "mnist")->required();
  fetch->add_option("--dir", a.folder, "Target folder (default ~/.cache/lockstep/<set>)");
  fetch->callback([&] { command = [&](const Options& o) { return DataFetch(o, a.what, a.folder); }; });
  CLI::App* generate = data->add_subcommand("generate", "Draw a data set");
  generate->add_option("set", a.what, "synthetic-digits")->required();
  generate->add_option("--dir", a.folder, "Target folder (default ~/.cache/lockstep/<set>)");
  generate->add_option("--train", a.train, "Training samples")->check(CLI::Range(1, 10'000'000));
  generate->add_option("--test", a.test, "Test samples")->check(CLI::Range(1, 10'000'000));
  generate->add_option("--seed", a.seed, "Another seed, other digits");
  generate->callback(
      [&] { command = [&](const Options& o) { return DataGenerate(o, a.what, a.folder, a.train, a.test, a.seed); }; });
  app.add_subcommand("devices", "What this machine can train on: its processor and its GPUs, or why it has none")
      ->callback([&] { command = [](const Options& o) { return Devices(o); }; });
  CLI::App* completion = app.add_subcommand("completion", "Print a completion script");
  completion->add_option("shell", a.shell, "bash or zsh")->required()->check(CLI::IsMember({"bash", "zsh"}));
  completion->callback([&] {
    command = [&](const Options& o) {
      *o.out << CompletionScript(app, a.shell == "zsh");
      return kOk;
    };
  });
  app.add_subcommand("version", "Print the version")->callback([&] {
    command = [](const Options& o) {
      *o.out << "lockstep " LOCKSTEP_VERSION "\n";
      return kOk;
    };
  });
}

}  // namespace

// Words for the shell, from the commands themselves.
std::string CompletionScript(const CLI::App& app, bool zsh) {
  const auto all = [](const CLI::App*) { return true; };
  std::string commands, cases;
  for (const CLI::App* sub : app.get_subcommands(all)) {
    absl::StrAppend(&commands, commands.empty() ? "" : " ", sub->get_name());
    std::string words;
    for (const CLI::App* nested : sub->get_subcommands(all)) absl::StrAppend(&words, nested->get_name(), " ");
    for (const CLI::Option* option : sub->get_options()) {
      for (const std::string& name : option->get_lnames()) absl::StrAppend(&words, "--", name, " ");
    }
    absl::StrAppend(&cases, "    ", sub->get_name(), ") words=\"", words, "\" ;;\n");
  }
  return absl::StrCat(zsh ? "autoload -U +X bashcompinit && bashcompinit\n" : "", "_lockstep() {\n  local words=\"",
                      commands, "\"\n  case \"${COMP_WORDS[1]}\" in\n", cases,
                      "  esac\n  [ \"$COMP_CWORD\" -eq 1 ] && words=\"", commands, R"("
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
  case "${COMP_WORDS[1]}" in
    submit|run|summary|plan|export|eval|predict) COMPREPLY+=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")) ;;
  esac
}
complete -F _lockstep lockstep
)");
}

int Main(int argc, char** argv) {
  CLI::App app{"Lockstep: distributed training with the same bits on any number of workers."};
  app.footer(kFooter);
  app.require_subcommand(1);
  // `lockstep list -o json` is what people type.
  app.fallthrough();
  Arguments a;
  Command command;
  app.add_option("--server", a.server, "Coordinator: host:port or unix:path");
  app.add_option("--config", a.config, "Configuration file");
  app.add_option("-o,--output", a.output, "table or json")->check(CLI::IsMember({"table", "json"}));
  app.add_option("--timeout", a.timeout, "Seconds to wait for an answer")->check(CLI::Range(0.001, 86'400.0));
  app.add_flag("--no-color", a.no_color, "Plain text");
  app.add_flag("--ascii", a.ascii, "ASCII characters only");
  AddJobCommands(app, a, command);
  AddQueryCommands(app, a, command);
  AddRecoveryCommands(app, a, command);
  AddAuditCommands(app, a, command);
  AddModelCommands(app, a, command);
  AddBenchCommands(app, a, command);
  AddOtherCommands(app, a, command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kOk : kUsage;
  }
  Options options{.json = a.output == "json",
                  .timeout = std::chrono::milliseconds(static_cast<int64_t>(a.timeout * 1000)),
                  .ascii = a.ascii,
                  .width = TerminalWidth(),
                  .out = &std::cout,
                  .err = &std::cerr};
  const ServerChoice choice = ChooseServer(a.server, a.config);
  if (!choice.error.empty()) {
    std::cerr << "error: " << choice.error << "\n";
    return kUsage;
  }
  options.server = choice.server;
  struct sigaction action {};
  action.sa_handler = OnInterrupt;
  // `run` starts a coordinator, which must not be left behind however it is asked to end.
  for (const int signal_number : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal_number, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return command(options);
}

}  // namespace lockstep::cli
