// SPDX-License-Identifier: Apache-2.0
// The service for people and their programs.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "common/model/job_plan.h"
#include "common/model/violations.h"
#include "grpcpp/grpcpp.h"
#include "lockstep/v1/training_service.grpc.pb.h"
#include "server/rpc/coordinator.h"
#include "server/rpc/event_hub.h"
#include "server/rpc/timer_queue.h"
#include "server/store/store.h"

namespace lockstep::rpc {

// Checks a spec against its data and works it out; adds all that is wrong. Thread-safe.
using Validator = std::function<JobPlan(const lockstep::v1::JobSpec& spec, Violations& violations)>;
// Told of each call when it ends: method and code, "SubmitJob" and "OK". Thread-safe.
using CallObserver = std::function<void(const std::string& method, const std::string& code)>;

// All but the functions outlive the services.
struct ServiceContext {
  Coordinator* coordinator = nullptr;
  store::Store* store = nullptr;
  EventHub* hub = nullptr;
  TimerQueue* timers = nullptr;
  Validator validate;
  CallObserver on_call;
  int slots = 4;
  std::chrono::milliseconds heartbeat{15'000};
};

class TrainingServiceImpl final : public lockstep::v1::TrainingService::CallbackService {
 public:
  explicit TrainingServiceImpl(ServiceContext context) : context_(std::move(context)) {}

  grpc::ServerUnaryReactor* SubmitJob(grpc::CallbackServerContext* call, const lockstep::v1::SubmitJobRequest* request,
                                      lockstep::v1::SubmitJobResponse* response) override;
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* call, const lockstep::v1::GetJobRequest* request,
                                   lockstep::v1::GetJobResponse* response) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* call, const lockstep::v1::ListJobsRequest* request,
                                     lockstep::v1::ListJobsResponse* response) override;
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* call, const lockstep::v1::CancelJobRequest* request,
                                      lockstep::v1::CancelJobResponse* response) override;
  grpc::ServerUnaryReactor* ScaleJob(grpc::CallbackServerContext* call, const lockstep::v1::ScaleJobRequest* request,
                                     lockstep::v1::ScaleJobResponse* response) override;
  grpc::ServerUnaryReactor* ResumeJob(grpc::CallbackServerContext* call, const lockstep::v1::ResumeJobRequest* request,
                                      lockstep::v1::ResumeJobResponse* response) override;
  grpc::ServerUnaryReactor* ListCheckpoints(grpc::CallbackServerContext* call,
                                            const lockstep::v1::ListCheckpointsRequest* request,
                                            lockstep::v1::ListCheckpointsResponse* response) override;
  grpc::ServerUnaryReactor* ListLedger(grpc::CallbackServerContext* call,
                                       const lockstep::v1::ListLedgerRequest* request,
                                       lockstep::v1::ListLedgerResponse* response) override;
  grpc::ServerUnaryReactor* ListDigests(grpc::CallbackServerContext* call,
                                        const lockstep::v1::ListDigestsRequest* request,
                                        lockstep::v1::ListDigestsResponse* response) override;
  grpc::ServerWriteReactor<lockstep::v1::WatchJobResponse>* WatchJob(
      grpc::CallbackServerContext* call, const lockstep::v1::WatchJobRequest* request) override;
  grpc::ServerWriteReactor<lockstep::v1::WatchLogsResponse>* WatchLogs(
      grpc::CallbackServerContext* call, const lockstep::v1::WatchLogsRequest* request) override;

 private:
  // Ends a unary call and counts it.
  void Finish(grpc::ServerUnaryReactor* reactor, const char* method, const grpc::Status& status) const;
  // The stored job, or a status as clients get it.
  grpc::Status Load(const std::string& job_id, lockstep::v1::Job* job) const;
  // Why a job that is not live cannot be changed: it has ended, or there is none.
  grpc::Status NotLive(const std::string& job_id) const;
  // Why a job cannot be resumed: there is none, or it has no such checkpoint.
  grpc::Status NoSuchCheckpoint(const lockstep::v1::ResumeJobRequest& request) const;
  // How many samples an epoch has; 0 where the data is not what it was.
  int64_t TrainSamples(const lockstep::v1::Job& job, int64_t steps_per_epoch) const;

  const ServiceContext context_;
};

// The streams; each owns itself until it is done.
grpc::ServerWriteReactor<lockstep::v1::WatchJobResponse>* StartWatchJob(const ServiceContext& context,
                                                                        const lockstep::v1::WatchJobRequest& request);
grpc::ServerWriteReactor<lockstep::v1::WatchLogsResponse>* StartWatchLogs(
    const ServiceContext& context, const lockstep::v1::WatchLogsRequest& request);

}  // namespace lockstep::rpc
