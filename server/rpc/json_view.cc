// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/json_view.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "lockstep/v1/events.pb.h"
#include "lockstep/v1/training_service.pb.h"
#include "server/rpc/convert.h"

namespace lockstep::rpc {

absl::StatusOr<std::string> JobsJson(const store::Store& store) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<store::JobRow> rows, store.ListJobs({}, INT64_MAX, 200));
  lockstep::v1::ListJobsResponse response;
  for (const store::JobRow& row : rows) {
    LOCKSTEP_ASSIGN_OR_RETURN(*response.add_jobs(), ToProto(row));
  }
  return ToJson(response);
}

absl::StatusOr<std::string> JobJson(const store::Store& store, const std::string& job_id) {
  LOCKSTEP_ASSIGN_OR_RETURN(const store::JobRow row, store.GetJob(job_id));
  lockstep::v1::GetJobResponse response;
  LOCKSTEP_ASSIGN_OR_RETURN(*response.mutable_job(), ToProto(row));
  return ToJson(response);
}

absl::StatusOr<std::string> EventsJson(const store::Store& store, const std::string& job_id, int64_t after) {
  LOCKSTEP_RETURN_IF_ERROR(store.GetJob(job_id).status());
  LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<store::EventRow> rows, store.Events(job_id, after, 1000));
  std::string text = "{\"events\":[";
  for (const store::EventRow& row : rows) {
    lockstep::v1::JobEvent event;
    if (!event.ParseFromString(row.body)) {
      return absl::DataLossError(absl::StrCat("event ", row.sequence, " of ", job_id, " is damaged"));
    }
    absl::StrAppend(&text, text.back() == '[' ? "" : ",", ToJson(event));
  }
  return text + "]}";
}

}  // namespace lockstep::rpc
