variable "alert_emails" {
  description = "Who is written to when an alert fires. Empty: alerts are only seen in the console."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@\\s]+@[^@\\s]+$", address))])
    error_message = "Give addresses, like ada@example.com."
  }
}

variable "api" {
  description = "The API's machines. threads: requests that one instance serves at the same time; one that waits for a job holds one."
  type = object({
    cpu           = optional(string, "1")
    memory        = optional(string, "1Gi")
    min_instances = optional(number, 0)
    max_instances = optional(number, 3)
    threads       = optional(number, 32)
  })
  default = {}

  validation {
    condition     = var.api.min_instances >= 0 && var.api.max_instances >= max(1, var.api.min_instances) && var.api.max_instances <= 100
    error_message = "max_instances must be 1 to 100, and not below min_instances: it is what caps the cost."
  }
  validation {
    condition     = var.api.threads >= 1 && var.api.threads <= 1000
    error_message = "threads must be 1 to 1000, the most requests Cloud Run sends to one instance."
  }
}

variable "api_public" {
  description = "true: anybody may reach the API, which asks for its own keys. false: callers also need roles/run.invoker, and send their Google token as X-Serverless-Authorization."
  type        = bool
  default     = true
}

variable "artifact_cors_origins" {
  description = "Web pages that may play artifacts by their signed links, like https://app.example.com. Empty: none; links opened directly always work."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for origin in var.artifact_cors_origins : can(regex("^https?://[^/*\\s]+$", origin))])
    error_message = "Give origins, like https://app.example.com: no path and no star."
  }
}

variable "billing_account" {
  description = "The billing account that pays for the project, for the budget: gcloud billing accounts list."
  type        = string

  validation {
    condition     = can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.billing_account))
    error_message = "Give the account's id, like 012345-6789AB-CDEF01."
  }
}

variable "configuration" {
  description = "What else promptreel.yaml is to say, as config/promptreel.yaml documents it: { limits = { queued_per_owner = 50 } }. What depends on this installation (gcp, artifacts.bucket, …) is filled in and wins; the length of queues follows the GPUs unless you say it."
  type        = any
  default     = {}
}

variable "courier" {
  description = "The machines that deliver completion webhooks. deliveries: how many one instance has in hand at the same time."
  type = object({
    max_instances = optional(number, 2)
    deliveries    = optional(number, 16)
  })
  default = {}

  validation {
    condition     = var.courier.max_instances >= 1 && var.courier.max_instances <= 20
    error_message = "max_instances must be 1 to 20."
  }
}

variable "deletion_protection" {
  description = "true: Terraform refuses to delete services, the database and buckets that hold something. Set false, apply, then destroy to tear everything down."
  type        = bool
  default     = true
}

variable "firestore" {
  description = "The database of jobs. location: a region or multi-region, for good; null: the region. point_in_time_recovery: seven days of every version, at a price."
  type = object({
    database               = optional(string, "(default)")
    location               = optional(string)
    point_in_time_recovery = optional(bool, false)
  })
  default = {}

  validation {
    condition     = can(regex("^(\\(default\\)|[a-z][a-z0-9-]{2,61}[a-z0-9])$", var.firestore.database))
    error_message = "database must be (default), or 4 to 63 lower-case letters, digits and hyphens."
  }
}

variable "gpu_worker" {
  description = "The machines that render, each with one L4. max_instances times the price of one (docs/performance.md) is the most that rendering can cost; a new project may have three."
  type = object({
    cpu           = optional(string, "4")
    memory        = optional(string, "16Gi")
    min_instances = optional(number, 0)
    max_instances = optional(number, 1)
  })
  default = {}

  validation {
    condition     = var.gpu_worker.min_instances >= 0 && var.gpu_worker.max_instances >= max(1, var.gpu_worker.min_instances) && var.gpu_worker.max_instances <= 1000
    error_message = "max_instances must be 1 to 1000, and not below min_instances: it is what caps the cost."
  }
  validation {
    condition     = contains(["4 16Gi", "8 32Gi"], "${var.gpu_worker.cpu} ${var.gpu_worker.memory}")
    error_message = "An L4 comes with 4 vCPU and 16Gi, or 8 and 32Gi."
  }
}

variable "gpu_worker_pool" {
  description = "Instances that pull their jobs, for renders above the ten minutes a push may take (several segments). They are always there and always cost; all GPU jobs are theirs then. null: jobs are pushed to gpu_worker, which scales to zero."
  type        = object({ instances = optional(number, 1) })
  default     = null

  validation {
    condition     = var.gpu_worker_pool == null ? true : var.gpu_worker_pool.instances >= 1 && var.gpu_worker_pool.instances <= 1000
    error_message = "instances must be 1 to 1000."
  }
}

variable "image_providers" {
  description = "Who makes pictures. replicate: needs a version of both of its secrets before the API starts. gemini: lets the API ask Vertex AI."
  type = object({
    replicate = optional(bool, false)
    gemini    = optional(bool, false)
  })
  default = {}
}

variable "images" {
  description = "What runs, by digest: REGION-docker.pkg.dev/PROJECT/REPOSITORY/api@sha256:…. remote_worker: where remote_worker is set. null altogether: only for the first apply, of terraform_data.foundation."
  type = object({
    api           = string
    gpu_worker    = string
    remote_worker = optional(string)
  })
  default = null

  validation {
    condition = var.images == null ? true : alltrue([
      for image in values(var.images) : image == null ? true : can(regex("^[^@\\s]+@sha256:[0-9a-f]{64}$", image))
    ])
    error_message = "Name images by digest, …@sha256: and 64 hexadecimal digits: a tag may mean another image tomorrow."
  }
  validation {
    condition     = var.images == null || var.remote_worker == null ? true : var.images.remote_worker != null
    error_message = "The remote worker has an image of its own: name images.remote_worker, too."
  }
}

variable "labels" {
  description = "Labels for everything that can have some, beside app."
  type        = map(string)
  default     = {}
}

variable "load_balancer" {
  description = "An HTTPS load balancer with HTTP/3 and a rate limit in front of the API, about 25 USD a month. domain: point its A record at the output load_balancer_address. null: callers use the run.app address."
  type = object({
    domain                     = string
    requests_per_minute_per_ip = optional(number, 300)
  })
  default = null

  validation {
    condition     = var.load_balancer == null ? true : can(regex("^([a-z0-9-]+\\.)+[a-z]{2,}$", var.load_balancer.domain))
    error_message = "domain must be a name like video.example.com."
  }
  validation {
    condition     = var.load_balancer == null ? true : var.load_balancer.requests_per_minute_per_ip >= 1
    error_message = "requests_per_minute_per_ip must be at least 1."
  }
}

variable "model" {
  description = "What the GPU worker renders with: the catalog's name, a preset, and where its image has the files. See README.md for the presets."
  type = object({
    name         = optional(string, "wan2.1")
    preset       = optional(string, "fast")
    dir          = optional(string, "/models/wan2.1")
    snapshot     = optional(string, "/models/wan2.1-snapshot")
    tiny_decoder = optional(string)
  })
  default = {}
}

variable "monthly_budget" {
  description = "What the project may cost a month, in the billing account's currency. Beyond half of it the account's administrators are told; nothing is switched off."
  type        = number
  default     = 100

  validation {
    condition     = var.monthly_budget >= 1 && floor(var.monthly_budget) == var.monthly_budget
    error_message = "Give a whole number above zero."
  }
}

variable "name" {
  description = "What the names of all resources begin with. Two installations in one project differ in it, in firestore.database and in topic_prefix."
  type        = string
  default     = "promptreel"

  validation {
    # A service account has 30 characters, and the longest ends with -remote-worker.
    condition     = can(regex("^[a-z][a-z0-9-]{1,14}[a-z0-9]$", var.name))
    error_message = "3 to 16 lower-case letters, digits and hyphens; begin with a letter."
  }
}

variable "project_id" {
  description = "The id of a Google Cloud project with billing, which this installation has for itself."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "6 to 30 lower-case letters, digits and hyphens; begin with a letter."
  }
}

variable "redelivery" {
  description = "When a message that was not acknowledged comes back, in seconds, and after how many deliveries it is a dead letter. Cloud Run's 429 counts as one, so this is how long jobs outlast a time without GPUs: 100 some fifteen hours, 20 two. A job that kills its workers ends after worker.max_attempts all the same."
  type = object({
    backoff_min_seconds = optional(number, 10)
    backoff_max_seconds = optional(number, 600)
    max_deliveries      = optional(number, 100)
  })
  default = {}

  validation {
    condition     = var.redelivery.max_deliveries >= 20 && var.redelivery.max_deliveries <= 100
    error_message = "max_deliveries must be 20 to 100: fewer would bury healthy jobs while all GPUs are busy."
  }
  validation {
    condition = (
      var.redelivery.backoff_min_seconds >= 1
      && var.redelivery.backoff_min_seconds <= var.redelivery.backoff_max_seconds
      && var.redelivery.backoff_max_seconds <= 600
    )
    error_message = "The backoff must be within 1 and 600 seconds, its minimum not above its maximum."
  }
}

variable "region" {
  description = "Where everything runs. It needs Cloud Run with L4: us-central1, us-east4, europe-west1, europe-west4, asia-southeast1 among others."
  type        = string
  default     = "us-central1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "Give a region, like europe-west4, not a zone."
  }
}

variable "remote_worker" {
  description = "A worker without a GPU, which has Google's Veo make videos on Vertex AI. fallback: it takes over when the GPU worker cannot. null: there is none."
  type = object({
    fallback      = optional(bool, true)
    location      = optional(string, "us-central1")
    max_instances = optional(number, 2)
  })
  default = null

  validation {
    condition     = var.remote_worker == null ? true : var.remote_worker.max_instances >= 1 && var.remote_worker.max_instances <= 20
    error_message = "max_instances must be 1 to 20."
  }
}

variable "retention" {
  description = "Days after its end until a job's files are removed, and until it is forgotten."
  type = object({
    artifact_days = optional(number, 7)
    job_days      = optional(number, 30)
  })
  default = {}

  validation {
    condition     = var.retention.artifact_days >= 1 && var.retention.artifact_days <= var.retention.job_days
    error_message = "artifact_days must be at least 1, and not above job_days."
  }
}

variable "state_bucket" {
  description = "The bucket of Terraform's state, so that releases may be applied by the deployer. null: only people apply."
  type        = string
  default     = null
}

variable "sweep_schedule" {
  description = "When lost jobs are looked for, as a cron line. A job whose worker died waits for it."
  type        = string
  default     = "* * * * *"
}

variable "topic_prefix" {
  description = "Before the names of all topics, for a second installation in one project."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([A-Za-z][A-Za-z0-9._-]*)?$", var.topic_prefix))
    error_message = "Begin with a letter; letters, digits, dots, hyphens and underscores."
  }
}
